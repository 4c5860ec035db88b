"""Kinds of photo files that are not read: known by name, so that nobody wonders where they went."""

from __future__ import annotations

import re
from pathlib import Path

# Endings, and how the first 16 bytes look. Raw files that look like any TIFF are not told apart
# by their bytes; `tiff_decode` knows them by what is in them.
_KINDS = {
    "HEIC": (".heic .heif .hif", rb"....ftyp(he[iv]|mif|msf)"),
    "AVIF": (".avif", rb"....ftypavi"),
    "JPEG 2000": (".jp2 .j2k", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "JPEG XL": (".jxl", rb"\0\0\0\x0cJXL |\xff\x0a"),
    "GIF": (".gif", rb"GIF8"),
    "BMP": (".bmp", rb"BM"),
    "Photoshop": (".psd .psb", rb"8BPS"),
    "camera raw": (
        ".cr2 .cr3 .crw .nef .nrw .arw .raf .orf .rw2 .rwl .dng .pef .srw .3fr .iiq",
        rb"....ftypcrx|II\*\0....CR|II\x1a\0..HEAPCCDR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0",
    ),
}
_OF_SUFFIX = {suffix: kind for kind, (all_, _) in _KINDS.items() for suffix in all_.split()}


def kind_by_name(path: Path) -> str | None:
    """Kind that a file's ending says, None if it is none of these.

    >>> kind_by_name(Path("IMG_0001.HEIC"))
    'HEIC'
    """
    return _OF_SUFFIX.get(path.suffix.lower())


def kind_by_bytes(head: bytes) -> str | None:
    """Kind that a file's first 16 bytes say, None if it is none of these."""
    found = (kind for kind, (_, look) in _KINDS.items() if re.match(look, head, re.DOTALL))
    return next(found, None)


def hint(kind: str) -> str:
    """What to do with a file of a kind."""
    if kind == "camera raw":
        return "camera raw, develop it to a TIFF or JPEG first"
    return f"{kind} is not read, convert it to JPEG, PNG, TIFF or WebP first"
