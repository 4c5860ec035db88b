"""Photo files of every format for the tests, written without the code that they judge.

HEIC, camera raw and lossy JPEG XL with a profile need the packages of refusion[photo]; a test that
needs a missing one is skipped.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/x"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x74\x00\x06(c) Io"
MAKER, COPYRIGHT, ORIENTATION = 0x010F, 0x8298, 0x0112
# Chromaticities of sRGB as a matrix from XYZ (D65), IEC 61966-2-1.
_SRGB_OF_XYZ = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
_RGGB = b"\0\1\1\2"


def ramp(height=24, width=32, channels=3, dtype=np.uint8):
    """Smooth pixels, which lossy formats hardly change: (height, width, channels)."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * (7 - channel) + y * (channel + 1)) / 300 for channel in range(channels)]
    return np.rint(np.stack(planes, 2) * np.iinfo(dtype).max).astype(dtype)


def exif(orientation=1):
    block = Image.Exif()
    block[MAKER], block[COPYRIGHT], block[ORIENTATION] = "Maker", "(c) Io", orientation
    return block.tobytes()


def package(name):
    """The package, or skip the test without it."""
    return pytest.importorskip(name)


def heic(pixels, *, bits=8, lossless=True, **options):
    """HEIC of (H, W, C) uint8, or uint16 over the full range with `bits` 10 or 12."""
    pillow_heif = package("pillow_heif")
    height, width, channels = pixels.shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels] + (";16" if bits > 8 else "")
    before = pillow_heif.options.SAVE_HDR_TO_12_BIT
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        image = pillow_heif.from_bytes(mode, (width, height), pixels.tobytes())
        file = io.BytesIO()
        if lossless:
            options |= {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
        image.save(file, **options)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = before
    return file.getvalue()


def avif(pixels, **options):
    """8-bit AVIF of Pillow."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "AVIF", **{"quality": 95, "subsampling": "4:4:4"} | options)
    return file.getvalue()


def deep_avif(pixels, bits):
    """AVIF with 10 or 12 bits of (H, W, 3) uint16 over that many bits."""
    imagecodecs = package("imagecodecs")
    return bytes(
        imagecodecs.avif_encode(pixels, level=100, bitspersample=bits, pixelformat="444", speed=8)
    )


def jxl(pixels, *, icc=None, xmp=None, block=None, compressed=False):
    """Lossless JPEG XL of pylibjxl, 8 bits; its boxes are compressed, or added here as they are."""
    pylibjxl = package("pylibjxl")
    if compressed:
        return pylibjxl.encode(pixels, lossless=True, icc=icc, exif=block, xmp=xmp)
    data = pylibjxl.encode(pixels, lossless=True, icc=icc)
    stream = data[data.index(b"\xff\x0a") :]
    boxes = struct.pack(">I4s", 12, b"JXL ") + b"\r\n\x87\n"
    boxes += struct.pack(">I4s", 20, b"ftyp") + b"jxl \0\0\0\0jxl "
    for kind, content in ((b"Exif", block and bytes(4) + block), (b"xml ", xmp)):
        boxes += struct.pack(">I4s", len(content) + 8, kind) + content if content else b""
    return boxes + struct.pack(">I4s", len(stream) + 8, b"jxlc") + stream


def dng(scene, *, orientation=1, neutral=(0.5, 1.0, 0.7), tint=(1, 1, 1), more=()):
    """Uncompressed DNG: a Bayer mosaic of a scene, and the tags that LibRaw needs.

    Args:
        scene: (H, W, 3), linear light with the primaries of sRGB, in [0, 1].
        orientation: of EXIF.
        neutral: what the camera records for white in daylight.
        tint: of the light; the camera knows it (AsShotNeutral), so the photo must come out without.
        more: further tags, as for tifffile.
    """
    height, width = scene.shape[:2]
    shot = np.multiply(neutral, tint)
    camera = np.rint((scene * shot).clip(0, 1) * 65535).astype(np.uint16)
    mosaic = np.empty((height, width), np.uint16)
    for index, channel in enumerate(_RGGB):
        y, x = divmod(index, 2)
        mosaic[y::2, x::2] = camera[y::2, x::2, channel]

    def ratios(values):
        return [number for value in values for number in (round(value * 10_000), 10_000)]

    matrix = (np.diag(neutral) @ np.array(_SRGB_OF_XYZ)).ravel()
    tags = [
        (271, 2, 0, "Maker", True),
        (272, 2, 0, "Test Camera", True),
        (274, 3, 1, orientation, True),
        (33421, 3, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, 1, 4, _RGGB, True),  # CFAPattern
        (33432, 2, 0, "(c) Io", True),
        (50706, 1, 4, b"\1\4\0\0", True),  # DNGVersion
        (50707, 1, 4, b"\1\1\0\0", True),  # DNGBackwardVersion
        (50708, 2, 0, "Test Camera", True),  # UniqueCameraModel
        (50714, 4, 1, 0, True),  # BlackLevel
        (50717, 4, 1, 65535, True),  # WhiteLevel
        (50721, 10, 9, ratios(matrix), True),  # ColorMatrix1
        (50728, 5, 3, ratios(shot), True),  # AsShotNeutral
        (50778, 3, 1, 21, True),  # CalibrationIlluminant1: D65
        *more,
    ]
    file = io.BytesIO()
    tifffile.imwrite(file, mosaic, photometric=32803, extratags=tags, metadata=None)
    return file.getvalue()


def cmyk_profile(paper=(100, 0, 0), black=(10, 0, 0)):
    """ICC profile of a printer: CMYK to Lab by a table of two steps for each ink.

    Cyan, magenta and yellow print colours of a tint of their own, so that it is seen whether the
    profile was used.

    Args:
        paper: L, a and b without ink.
        black: L, a and b of full black ink.
    """
    inks = np.array([(60, -30, -40), (55, 60, 0), (90, 0, 80)], float)  # a weak press
    nodes = []
    for index in range(16):
        amounts = [index >> 3 & 1, index >> 2 & 1, index >> 1 & 1]
        colour = np.array(paper, float)
        for amount, ink in zip(amounts, inks, strict=True):
            colour = colour + amount * (ink - paper) * (0.6, 1, 1)
        if index & 1:
            colour = np.array(black, float) + (colour - paper) * 0.1
        lightness, a, b = colour
        codes = lightness / 100 * 255, a + 128, b + 128
        nodes += [round(float(np.clip(code, 0, 255))) for code in codes]
    identity = bytes(range(256))
    unit = struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + identity * 4 + bytes(nodes)
    table += identity * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 6) + b"press\0" + bytes(78)
    tags = [(b"desc", text), (b"cprt", b"text" + bytes(4) + b"none\0"), (b"A2B0", table)]
    tags.append((b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)))
    entries, contents, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        content += bytes(-len(content) % 4)
        entries += struct.pack(">4sII", name, at + len(contents), len(content))
        contents += content
    size = at + len(contents)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + contents


def srgb_by_littlecms(inks, icc):
    """CMYK (H, W, 4) uint8 as sRGB, by a transform of Pillow that is built here."""
    transform = ImageCms.buildTransform(
        io.BytesIO(icc),
        ImageCms.createProfile("sRGB"),
        "CMYK",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(ImageCms.applyTransform(Image.fromarray(inks, "CMYK"), transform))
