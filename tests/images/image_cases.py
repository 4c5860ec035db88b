"""Files and pixels for the tests of image I/O, built without the code they judge."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZES = [(1, 1), (1, 7), (3, 2), (33, 17)]
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
LOSSLESS = ["png", "tif", "webp"]


def noise(height, width, channels, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def squeezed(pixels):
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def levels(tensor, depth=8):
    """Float planes back to samples (H, W, C), computed in double precision."""
    return np.rint(tensor.double().permute(1, 2, 0).numpy() * (2**depth - 1)).astype(int)


def png_16(pixels, *, interlaced=False, extra=b""):
    """16-bit PNG, straight from the specification."""
    height, width, channels = pixels.shape

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    def lines(part):
        return b"".join(b"\0" + line.astype(">u2").tobytes() for line in part)

    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    adam7.append((1, 0, 2, 1))
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in adam7] if interlaced else [pixels]
    body = b"".join(lines(part) for part in passes if part.size)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(*extra) if extra else b"")
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def png_chunks(data):
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += length + 12
    return found


def exif_block(orientation=1, order=None):
    exif = Image.Exif()
    if order is not None:
        exif.endian = order
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update({0xA002: 4000, 0xA003: 3000, 0x829A: IFDRational(1, 125)})
    return exif.tobytes()
