"""The table of docs/formats.md, measured: each format is read, written and read again.

    python tests/images/format_table.py      # writes the table into the page

A cell says what a photo in a format keeps in its result: of the same format, or for HEIC of JPEG
and for camera raw of TIFF.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import format_files as files
import gain_map_cases
import numpy as np
from image_cases import ICC

from refusion.images.io import read_arrays, write_image
from refusion.images.listing import RESULTS
from refusion.images.packages import PACKAGES
from refusion.images.photo import Photo

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
HEAD = "| format | read | written | bits | profile | EXIF | XMP | IPTC | alpha | gain map |"
FORMATS = {
    "JPEG": ("JPEG", ".jpg"),
    "PNG": ("PNG", ".png"),
    "TIFF": ("TIFF", ".tif"),
    "WebP": ("WEBP", ".webp"),
    "AVIF": ("AVIF", ".avif"),
    "JPEG XL": ("JXL", ".jxl"),
    "HEIC": ("HEIC", ".heic"),
    "camera raw, DNG": ("RAW", ".dng"),
}
"""Format and suffix of the rows."""
_DEPTHS = (8, 10, 12, 16, 32)
_NO = "–"  # noqa: RUF001


@dataclass(frozen=True)
class _Trip:
    """A photo as it was read, and its result as it was read again."""

    photo: Photo
    result: Photo


def table(folder, names=FORMATS):
    """Rows of the table by format: lists of cells.

    Args:
        folder: for the files.
        names: the formats.
    """
    return {name: _row(folder, name) for name in names}


def _row(folder, name):
    kind, suffix = FORMATS[name]
    target = RESULTS.get(kind, suffix)
    package = PACKAGES.get(kind)
    read = "yes" if package is None or "refusion" not in package.install else "with the extra"
    written = "yes" if kind not in RESULTS else {".jpg": "as JPEG", ".tif": "as TIFF"}[target]
    full = _trip(folder, _full(kind, suffix), suffix, target)
    cells = [name, read, written, _depths(folder, kind, suffix, target)]
    cells += [_word(full, "icc"), _word(full, "exif"), _word(full, "xmp"), _iptc(full)]
    return [*cells, _alpha(folder, kind, suffix, target), _gain_map(folder, kind, suffix, target)]


def _trip(folder, data, suffix, target):
    source, result = Path(folder, f"a{suffix}"), Path(folder, f"b{target}")
    source.write_bytes(data)
    photo = read_arrays(source)
    write_image(result, photo.samples, photo)
    return _Trip(photo, read_arrays(result))


def _word(trip, key):
    before, after = getattr(trip.photo, key), getattr(trip.result, key)
    if before is None:
        return _NO
    return "kept" if after is not None and (key == "exif" or after == before) else "read"


def _iptc(trip):
    if trip.photo.iptc is not None:
        return _word(trip, "iptc")
    return _NO


def _photo(pixels, **properties):
    planes = pixels.transpose(2, 0, 1)
    alpha = (planes[-1:] / np.iinfo(pixels.dtype).max).astype("f4") if len(planes) == 4 else None
    block = files.exif()[6:]
    return Photo(planes[:3], alpha, bit_depth=8 * pixels.dtype.itemsize, exif=block, **properties)


def _written(suffix, photo):
    """Bytes of a photo in a format that refusion writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        write_image(path, photo.samples, photo)
        return path.read_bytes()


def _full(kind, suffix):
    """A file with all metadata that the format can hold."""
    if kind == "HEIC":
        return files.heic(files.ramp(), exif=files.exif(), xmp=files.XMP, icc_profile=ICC)
    if kind == "RAW":
        more = [(700, 1, len(files.XMP), files.XMP, True), (33723, 7, 11, files.IPTC, True)]
        return files.dng(np.full((64, 64, 3), 0.3), more=more)
    return _written(suffix, _photo(files.ramp(), icc=ICC, xmp=files.XMP, iptc=files.IPTC))


def _depths(folder, kind, suffix, target):
    """Depths that are read and, if the format is written, written."""
    found = []
    for depth in _DEPTHS:
        data = _deep(kind, suffix, depth)
        if data is None:
            continue
        trip = _trip(folder, data, suffix, target)
        after = trip.photo if kind in RESULTS else trip.result
        if (after.coded_depth or after.bit_depth) == depth:
            found.append(f"{depth} (float)" if depth == 32 else str(depth))
    return ", ".join(found)


def _deep(kind, suffix, depth):
    """A file with a number of bits; None if the format has no such files."""
    pixels = files.ramp(dtype=np.uint8 if depth == 8 else np.uint16)
    if kind == "HEIC":
        return files.heic(pixels, bits=depth) if depth <= 12 else None
    if kind == "RAW":
        return files.dng(np.full((64, 64, 3), 0.3)) if depth == 16 else None
    if kind == "AVIF" and depth in (10, 12):
        return files.deep_avif(pixels >> (16 - depth), depth)
    if depth in (10, 12):
        return None
    if depth == 32:
        planes = (pixels / 65535).astype("f4").transpose(2, 0, 1)
        return _written(suffix, Photo(planes, bit_depth=32))
    return _written(suffix, _photo(pixels))


def _alpha(folder, kind, suffix, target):
    if kind == "RAW":
        return _NO
    pixels = files.ramp(channels=4)
    data = files.heic(pixels) if kind == "HEIC" else _written(suffix, _photo(pixels))
    trip = _trip(folder, data, suffix, target)
    if trip.photo.alpha is None:
        return _NO
    return "kept" if trip.result.alpha is not None else "read"


def _gain_map(folder, kind, suffix, target):
    if kind != "JPEG":  # the others are read without it, with a warning
        return _NO
    trip = _trip(folder, gain_map_cases.ultra_hdr(), suffix, target)
    return "kept" if trip.photo.gain_map is not None and trip.result.gain_map is not None else _NO


def lines(rows):
    """The table in Markdown."""
    rule = "|" + "---|" * HEAD.count("| ")
    return [HEAD, rule, *(f"| {' | '.join(cells)} |" for cells in rows.values())]


def main():
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        new = lines(table(folder))
    page = PAGE.read_text(encoding="utf-8").splitlines()
    start = page.index(HEAD)
    end = next(at for at in range(start, len(page)) if not page[at].startswith("|"))
    text = "\n".join([*page[:start], *new, *page[end:]]) + "\n"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
