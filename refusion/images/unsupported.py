"""Detection of image formats that are not supported, for clear messages about such files."""

from __future__ import annotations

import re
from pathlib import Path

# Suffixes, and a pattern of the first 16 bytes. Some raw files start like any TIFF; `tiff_decode`
# detects them by their tags.
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
_KIND_BY_SUFFIX = {suffix: kind for kind, (all_, _) in _KINDS.items() for suffix in all_.split()}


def kind_by_name(path: Path) -> str | None:
    """Unsupported format that the suffix of a file names; None for any other suffix.

    >>> kind_by_name(Path("IMG_0001.HEIC"))
    'HEIC'
    """
    return _KIND_BY_SUFFIX.get(path.suffix.lower())


def kind_by_bytes(head: bytes) -> str | None:
    """Unsupported format that the first 16 bytes of a file match; None if there is no match."""
    found = (kind for kind, (_, pattern) in _KINDS.items() if re.match(pattern, head, re.DOTALL))
    return next(found, None)


def hint(kind: str) -> str:
    """Message that tells the user how to convert a file of an unsupported format.

    Args:
        kind: as returned by `kind_by_name` or `kind_by_bytes`.
    """
    if kind == "camera raw":
        return "camera raw, develop it to a TIFF or JPEG first"
    return f"{kind} is not supported, convert it to JPEG, PNG, TIFF or WebP first"
