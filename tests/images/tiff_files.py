"""TIFF files for tests, written from the specification without tifffile and Pillow."""

from __future__ import annotations

import lzma
import struct
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np

# Numbers of bytes of the types of TIFF.
LAYOUTS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 9: "i", 11: "f", 12: "d", 16: "Q"}
BYTE_CODECS = {
    "none": (1, bytes),
    "lzw": (5, lambda data: bytes(imagecodecs.lzw_encode(data))),
    "deflate": (8, zlib.compress),
    "old deflate": (32946, zlib.compress),
    "packbits": (32773, lambda data: bytes(imagecodecs.packbits_encode(data))),
    "lzma": (34925, lambda data: lzma.compress(data, check=lzma.CHECK_NONE)),
    "zstd": (50000, lambda data: bytes(imagecodecs.zstd_encode(data))),
}


def _jpeg(given, stored):
    return {"colorspace": given, "outcolorspace": stored}


IMAGE_CODECS = {
    "jpeg2k": (34712, lambda image: imagecodecs.jpeg2k_encode(image, level=0, codecformat=0)),
    "lerc": (34887, imagecodecs.lerc_encode),
    "png": (34933, imagecodecs.png_encode),
    "webp": (50001, lambda image: imagecodecs.webp_encode(image, lossless=True)),
    "jpeg": (7, lambda image: imagecodecs.jpeg8_encode(image, level=97)),
    "rgb jpeg": (7, lambda i: imagecodecs.jpeg8_encode(i, 97, **_jpeg("RGB", "RGB"))),
    "ycbcr jpeg": (7, lambda i: imagecodecs.jpeg8_encode(i, 97, **_jpeg("RGB", "YCBCR"))),
    "cmyk jpeg": (7, lambda i: imagecodecs.jpeg8_encode(i, 97, **_jpeg("CMYK", "CMYK"))),
    "jpegxl": (50002, lambda image: imagecodecs.jpegxl_encode(image, lossless=True)),
}


@dataclass(frozen=True)
class Layout:
    """How samples are stored; the names are those of the tags."""

    bits: int
    photometric: int
    codec: str = "none"
    predictor: int = 1
    planar: bool = False
    order: str = "<"
    rows: int = 5
    tile: int = 0
    big: bool = False
    reversed_bits: bool = False
    extras: tuple[int, ...] = ()


def tiff(samples: np.ndarray, layout: Layout, following: int = 0, **tags: object) -> bytes:
    """A file of one page.

    Args:
        samples: (H, W, S), unsigned numbers below 2^bits, or floats.
        layout: how they are stored.
        following: offset of the next directory; -1 for the offset of this one.
        tags: further tags `t123=(type, values)`, or tags to replace; None removes one;
            `(type, count, bytes)` gives the bytes of the entry.
    """
    height, width, count = samples.shape
    parts = list(_segments(samples, layout))
    kind = 3 if samples.dtype.kind == "f" else 1
    code = (BYTE_CODECS | IMAGE_CODECS)[layout.codec][0]
    entries = {
        256: (4, (width,)), 257: (4, (height,)), 258: (3, (layout.bits,) * count),
        259: (3, (code,)), 262: (3, (layout.photometric,)),
        266: (3, (2 if layout.reversed_bits else 1,)), 277: (3, (count,)),
        284: (3, (2 if layout.planar else 1,)), 317: (3, (layout.predictor,)),
        339: (3, (kind,) * count),
    }  # fmt: skip
    if layout.extras:
        entries[338] = (3, layout.extras)
    if layout.tile:
        entries |= {322: (3, (layout.tile,)), 323: (3, (layout.tile,))}
    else:
        entries[278] = (4, (min(layout.rows, height),))
    start, offsets = (16 if layout.big else 8), []
    for part in parts:
        offsets.append(start)
        start += len(part)
    number = 16 if layout.big else 4
    entries[324 if layout.tile else 273] = (number, offsets)
    entries[325 if layout.tile else 279] = (number, [len(part) for part in parts])
    for name, entry in tags.items():
        entries[int(name[1:])] = entry
    kept = {tag: entry for tag, entry in entries.items() if entry is not None}
    directory = _directory(kept, layout, start, start if following < 0 else following)
    mark = {"<": b"II", ">": b"MM"}[layout.order]
    head = struct.pack(layout.order + "H", 42) + struct.pack(layout.order + "I", start)
    if layout.big:
        head = struct.pack(layout.order + "HHHQ", 43, 8, 0, start)
    return mark + head + b"".join(parts) + directory


def _directory(entries: dict[int, tuple], layout: Layout, start: int, following: int) -> bytes:
    counter, count_of, offset = ("Q", "Q", "Q") if layout.big else ("H", "I", "I")
    order, inline = layout.order, struct.calcsize("=" + offset)
    step = 4 + struct.calcsize("=" + count_of) + inline
    free = start + struct.calcsize("=" + counter) + step * len(entries) + inline
    head, rest = struct.pack(order + counter, len(entries)), b""
    for tag in sorted(entries):
        if len(entries[tag]) == 3:
            kind, number, place = entries[tag]
            place = place.ljust(inline, b"\0")
            head += struct.pack(order + "HH" + count_of, tag, kind, number) + place
            continue
        kind, values = entries[tag]
        if isinstance(values, bytes):
            content, number = values, len(values)
        else:
            one = LAYOUTS[kind]
            content = struct.pack(f"{order}{len(values)}{one[0]}", *values)
            number = len(values) // len(one)
        place = content.ljust(inline, b"\0")
        if len(content) > inline:
            place = struct.pack(order + offset, free + len(rest))
            rest += content
        head += struct.pack(order + "HH" + count_of, tag, kind, number) + place
    return head + struct.pack(order + offset, following) + rest


def _segments(samples: np.ndarray, layout: Layout):
    """The coded strips or tiles, plane by plane."""
    planes = np.split(samples, samples.shape[2], axis=2) if layout.planar else [samples]
    height, width = samples.shape[:2]
    rows, columns = (layout.tile,) * 2 if layout.tile else (layout.rows, width)
    for plane in planes:
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                part = plane[top : top + rows, left : left + columns]
                if layout.tile:
                    missing = [(0, rows - part.shape[0]), (0, columns - part.shape[1]), (0, 0)]
                    part = np.pad(part, missing, "edge")
                yield _coded(np.ascontiguousarray(part), layout)


def _coded(part: np.ndarray, layout: Layout) -> bytes:
    if layout.codec in IMAGE_CODECS:
        return bytes(IMAGE_CODECS[layout.codec][1](part[..., 0] if part.shape[2] == 1 else part))
    data = BYTE_CODECS[layout.codec][1](_packed(part, layout))
    reverse = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
    return data.translate(reverse) if layout.reversed_bits else data


def _packed(part: np.ndarray, layout: Layout) -> bytes:
    """Predicted rows as bytes; samples of a few bits are packed, and a row ends at a byte."""
    if part.dtype.kind == "u" and layout.bits not in (8, 16):
        return b"".join(_bits(row.ravel(), layout.bits) for row in part)
    if layout.predictor == 2:
        whole = part.view(f"u{part.itemsize}")
        part = whole.copy()
        part[:, 1:] -= whole[:, :-1]
    elif layout.predictor == 3:
        return b"".join(_float_row(row) for row in part)
    return part.astype(part.dtype.newbyteorder(layout.order)).tobytes()


def _bits(row: np.ndarray, bits: int) -> bytes:
    text = "".join(f"{value:0{bits}b}" for value in row)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _float_row(row: np.ndarray) -> bytes:
    """Floating-point predictor: the bytes of equal weight together, then their differences."""
    size, samples = row.dtype.itemsize, row.shape[1]
    split = row.astype(row.dtype.newbyteorder(">")).reshape(-1).view(np.uint8)
    split = np.ascontiguousarray(split.reshape(-1, size).T).reshape(-1)
    coded = split.copy()
    coded[samples:] -= split[:-samples]
    return coded.tobytes()
