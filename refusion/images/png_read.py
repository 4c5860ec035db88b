"""Reading of the chunks of a PNG file: metadata, and the places of the coded pixels.

A damaged ancillary chunk never makes the photo unreadable, because the decoder of the pixels
receives the critical chunks only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from refusion.images import png_text
from refusion.images.iptc import PHOTOSHOP, read_resources
from refusion.images.jpeg_segments import EXIF_HEADER, XMP_HEADER
from refusion.images.photo import Photo
from refusion.images.source import MAX_BLOCK, MAX_BLOCKS, TOO_MUCH, Source, joined, trailing

# Chunks that define the colours, and their lengths.
COLOUR = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}
# Depth and colour type of the kinds of pixels that are not converted when they are read.
_WIDE = tuple(bytes((depth, kind)) for depth in (8, 16) for kind in (0, 2, 4, 6))
# Chunks about the coded file, not about the photo: time of the last change, order of the data,
# use of the palette, animation.
_ABOUT_FILE = (b"tIME", b"iDOT", b"hIST", b"acTL", b"fcTL", b"fdAT")
_NAMES = {b"caBX": "content credentials (C2PA)"}


@dataclass
class _Found:
    """What the chunks contain so far."""

    blocks: dict[str, bytes] = field(default_factory=dict)  # icc, exif, xmp
    raw: dict[str, bytes] = field(default_factory=dict)  # the same and iptc, of raw profiles
    colour: dict[bytes, bytes] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    dpi: tuple[float, float] | None = None
    dropped: list[str] = field(default_factory=list)
    is_animated: bool = False
    has_wide_samples: bool = True  # a background colour needs no conversion
    left: int = MAX_BLOCKS  # bytes of chunks and of decompressed texts that are still read


def read_png(file: BinaryIO) -> tuple[Source, bool]:
    """Read the metadata of a PNG file.

    Args:
        file: opened for reading.

    Returns:
        The file in its parts, and whether it is an animation.
    """
    found, parts, end = _Found(), [(0, 8)], 8
    file.seek(24)
    found.has_wide_samples = file.read(2) in _WIDE
    for kind, begin, end in chunks(file):
        is_critical = not kind[0] & 0x20
        if is_critical:
            parts.append((begin, end))
            continue
        content = _content(file, begin, end)
        if content is None:
            found.dropped.append(f"damaged chunk {_name(kind)}")
        elif kind == b"tRNS":
            parts.append((begin, end))
        elif len(content) > found.left:
            found.dropped.append(TOO_MUCH)
        else:
            found.left -= len(content)
            _take(found, kind, content)
    rest = trailing(file, end)
    if rest:
        found.dropped.append(f"{rest} bytes behind the image")
    return _source(file, found, joined(parts)), found.is_animated


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the chunks; a part that is no chunk counts as a critical one.

    Args:
        file: a PNG file, opened for reading.
    """
    size, at = file.seek(0, 2), 8
    while at < size:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not head[4:].isalpha():
            yield b"JUNK", at, size
            return
        length, kind = struct.unpack(">I4s", head)
        end = min(at + length + 12, size)
        yield kind, at, end
        at = end
        if kind == b"IEND":
            return


def _content(file: BinaryIO, begin: int, end: int) -> bytes | None:
    """Content of a chunk; None if it is damaged or too long."""
    if end - begin < 12 or end - begin > MAX_BLOCK:
        return None
    file.seek(begin)
    chunk = file.read(end - begin)
    length = struct.unpack_from(">I", chunk)[0]
    if length != len(chunk) - 12 or chunk[-4:] != struct.pack(">I", zlib.crc32(chunk[4:-4])):
        return None
    return chunk[8:-4]


def _take(found: _Found, kind: bytes, content: bytes) -> None:
    """Sort a sound ancillary chunk."""
    if kind in COLOUR or kind == b"iCCP":
        _take_colour(found, kind, content)
    elif kind == b"eXIf":
        found.blocks.setdefault("exif", content)
    elif kind == b"pHYs" and len(content) == 9:
        _take_size(found, *struct.unpack(">IIB", content))
    elif kind in png_text.KINDS:
        _take_text(found, kind, content)
    elif kind == b"acTL" and len(content) == 8:
        found.is_animated = struct.unpack(">I", content[:4])[0] > 1
    elif kind not in _ABOUT_FILE:
        _take_other(found, kind, content)


def _take_other(found: _Found, kind: bytes, content: bytes) -> None:
    is_safe = bool(kind[3] & 0x20)  # the standard marks chunks that are safe to copy
    if is_safe or kind == b"sBIT" or (kind == b"bKGD" and found.has_wide_samples):
        found.chunks.append(chunk(kind, content))
    else:
        found.dropped.append(_NAMES.get(kind, f"chunk {_name(kind)}"))


def _take_colour(found: _Found, kind: bytes, content: bytes) -> None:
    if kind == b"iCCP":
        if "icc" in found.blocks:
            found.dropped.append("second ICC profile")
            return
        try:
            icc = png_text.inflated(content.partition(b"\0")[2][1:], MAX_BLOCK)
            found.blocks["icc"] = icc
        except ValueError:
            found.left = max(0, found.left - MAX_BLOCK)
            found.dropped.append("damaged ICC profile")
    elif len(content) == COLOUR[kind] and kind not in found.colour:
        found.colour[kind] = content
    else:
        found.dropped.append(f"damaged chunk {_name(kind)}")


def _take_size(found: _Found, across: int, down: int, unit: int) -> None:
    if unit == 1 and across and down:
        found.dpi = across * 0.0254, down * 0.0254
    elif across != down:
        found.dropped.append(f"pixel aspect ratio {across}:{down}")


def _take_text(found: _Found, kind: bytes, content: bytes) -> None:
    try:
        text = png_text.read_text(kind, content, found.left)
        found.left = max(0, found.left - len(text.content))
        if text.keyword == png_text.XMP_KEYWORD:
            found.blocks.setdefault("xmp", text.content)
        elif text.profile is None or not _take_profile(found, text):
            found.chunks.append(chunk(kind, content))
    except ValueError:
        found.left = max(0, found.left - png_text.MAX_TEXT)
        keyword = content.partition(b"\0")[0][:79].decode("latin-1")
        shown = "".join(letter if letter.isprintable() else "?" for letter in keyword)
        found.dropped.append(f"text '{shown}' (damaged or too long)")


def _take_profile(found: _Found, text: png_text.Text) -> bool:
    """Take a raw profile; False if its name is not known."""
    if text.profile not in ("exif", "app1", "xmp", "icc", "icm", "iptc", "8bim"):
        return False
    content = png_text.raw_profile(text.content)
    if text.profile in ("icc", "icm"):
        name = "icc"
    elif text.profile in ("iptc", "8bim"):
        name = "iptc" if content[:1] == b"\x1c" else "photoshop"
    elif text.profile == "xmp" or content.startswith((XMP_HEADER, b"<")):
        name = "xmp"
    else:
        name = "exif"
    for header in (EXIF_HEADER, XMP_HEADER, PHOTOSHOP):
        content = content.removeprefix(header)
    found.raw.setdefault(name, content)
    return True


def _source(file: BinaryIO, found: _Found, pixels: tuple[tuple[int, int], ...]) -> Source:
    blocks = found.raw | found.blocks
    resources = read_resources(blocks.get("photoshop", b""))
    exif = blocks.get("exif", b"").removeprefix(EXIF_HEADER)
    photo = Photo(
        np.empty(0),
        format="PNG",
        icc=blocks.get("icc"),
        exif=exif or None,
        xmp=blocks.get("xmp") or None,
        iptc=blocks.get("iptc") or resources.iptc,
        photoshop=resources.others,
        dpi=found.dpi,
        png_colour=b"".join(chunk(kind, content) for kind, content in found.colour.items()),
        png_chunks=b"".join(found.chunks),
    )
    twice = [
        name for name in found.raw if found.blocks.get(name, found.raw[name]) != found.raw[name]
    ]
    names = {"icc": "ICC profile", "exif": "EXIF block", "xmp": "XMP packet"}
    dropped = [*found.dropped, *(f"second {names[name]}" for name in twice)]
    return Source(photo, file, pixels, tuple(dropped))


def _name(kind: bytes) -> str:
    return kind.decode("latin-1")


def chunk(kind: bytes, content: bytes) -> bytes:
    """A complete chunk: length, kind, content and checksum."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
