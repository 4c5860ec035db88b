"""Detection of image formats that are not supported, for clear messages about such files."""

from __future__ import annotations

import re
from pathlib import Path

# Suffixes, and a pattern of the first 16 bytes.
_KINDS = {
    "JPEG 2000": (
        ".jp2 .j2k .j2c .jpc .jpf .jpx .jpm",
        rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    ),
    "JPEG XR": (".jxr .wdp .hdp", rb"II\xbc"),
    "GIF": (".gif", rb"GIF8"),
    "BMP": (".bmp .dib", rb"BM....\0\0"),
    "Photoshop": (".psd .psb", rb"8BPS"),
    "OpenEXR": (".exr", rb"v/1\x01"),
    "Radiance HDR": (".hdr .rgbe", rb"#\?(RADIANCE|RGBE)"),
    "Netpbm": (".ppm .pgm .pbm .pnm .pam .pfm", rb"P([1-6]\s+[\d#]|[fF]\s+\d|7\n)"),
    "Targa": (".tga .icb .vda .vst", rb"(?!)"),  # its files have no signature
    "SVG": (".svg .svgz", rb"<svg"),
    "icon": (".ico .cur .icns", rb"\0\0[\1\2]\0[^\0]\0|icns"),
    "GIMP": (".xcf", rb"gimp xcf"),
    "DDS": (".dds", rb"DDS "),
    "QOI": (".qoi", rb"qoif"),
    "PCX": (".pcx", rb"(?!)"),
    "SGI": (".sgi .rgb .bw", rb"(?!)"),
    "EPS": (".eps", rb"%!PS-Adobe-.\..EPS|\xc5\xd0\xd3\xc6"),
}
_KIND_BY_SUFFIX = {suffix: kind for kind, (all_, _) in _KINDS.items() for suffix in all_.split()}


def kind_by_name(path: Path) -> str | None:
    """Unsupported format that the suffix of a file names; None for any other suffix.

    >>> kind_by_name(Path("icon.GIF"))
    'GIF'
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
    return f"{kind} is not supported, convert it to JPEG, PNG, TIFF or WebP first"
