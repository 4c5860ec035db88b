"""Checks of `test_kept_blocks`: profiles, EXIF and XMP."""

from __future__ import annotations

import io
import struct
from xml.etree import ElementTree

import metadata_cases as cases
from PIL import ExifTags, Image

FORMATS = ["jpg", "png", "tif", "webp"]
CHECKS = {}


def check(row, **sources):
    """Register the check of a row: source files by format, and a function for each word."""

    def register(words):
        CHECKS[row] = (sources, words())
        return words

    return register


def by_format(build, formats=FORMATS):
    return {suffix: build(suffix) for suffix in formats}


def same(*keys):
    def kept(source, result, *_):
        before, after = cases.info(source), cases.info(result)
        for key in keys:
            assert before[key] and after[key] == before[key]

    return kept


@check("ICC profile", **by_format(cases.with_icc))
def _icc():
    return {"kept": same("icc_profile")}


CREDITS = {0x8298: "(c) Io", 0x013B: "Io", 0x010E: "Sea"}
EXIF = cases.exif(CREDITS)


def exif_kept(source, result, target, _):
    if target == "tif" or source.startswith((b"II", b"MM")):
        exif_rewritten(source, result)
    else:
        assert cases.info(result)["exif"] == EXIF


def exif_rewritten(source, result, *_):
    assert {**cases.exif_tags(result), **CREDITS} == cases.exif_tags(result)
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(result)) as after:
        old, new = before.getexif(), after.getexif()
        for directory in (0x8769, 0x8825):
            assert old.get_ifd(directory) and new.get_ifd(directory) == old.get_ifd(directory)


@check("EXIF", **by_format(lambda suffix: cases.with_exif(suffix, EXIF)))
def _exif():
    return {"kept": exif_kept, "rewritten": exif_rewritten}


TURNED = cases.exif({0x0100: 9, 0x0101: 5}, orientation=6)


def turned(source, result, *_):
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(result)) as after:
        assert after.size == before.size[::-1]
        assert after.getexif().get(0x0112, 1) == 1


@check(
    "EXIF orientation",
    **by_format(lambda suffix: cases.with_exif(suffix, TURNED), ["jpg", "png", "webp"]),
)
def _orientation():
    return {"applied": turned}


def thumbnail_block():
    """EXIF block whose second directory is a thumbnail."""
    count = struct.unpack_from(">H", EXIF, 8)[0]
    block = bytearray(EXIF)
    struct.pack_into(">I", block, 10 + 12 * count, len(block))
    jpeg = cases.picture("jpg")
    at = len(block) + 2 + 24 + 4
    entries = struct.pack(">HHII", 0x0201, 4, 1, at) + struct.pack(">HHII", 0x0202, 4, 1, len(jpeg))
    return bytes(block) + struct.pack(">H", 2) + entries + bytes(4) + jpeg


def without_thumbnail(source, result, *_):
    with Image.open(io.BytesIO(source)) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)  # the directory of the thumbnail
    with Image.open(io.BytesIO(result)) as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


@check(
    "EXIF thumbnail",
    **by_format(lambda suffix: cases.with_exif(suffix, thumbnail_block()), ["jpg", "png", "webp"]),
)
def _thumbnail():
    return {"left out": without_thumbnail}


LONG_EXIF = cases.exif(CREDITS, note=bytes(range(256)) * 400)


def shortened(_, result, target, log):
    assert {**cases.exif_tags(result), **CREDITS} == cases.exif_tags(result)
    with Image.open(io.BytesIO(result)) as image:
        details = image.getexif().get_ifd(0x8769)
    assert 0x829A in details and 0x927C not in details
    assert "EXIF" in log and len(cases.info(result)["exif"]) < 1000


@check(
    "EXIF above 64 KB",
    **by_format(lambda suffix: cases.with_exif(suffix, LONG_EXIF), ["png", "webp", "tif"]),
)
def _long_exif():
    def kept(source, result, *_):
        exif_rewritten(source, result)
        assert source.startswith((b"II", b"MM")) or cases.info(result)["exif"] == LONG_EXIF

    return {"kept": kept, "rewritten": exif_rewritten, "shortened": shortened}


@check("XMP", **by_format(lambda suffix: cases.with_xmp(suffix, cases.XMP)))
def _xmp():
    def kept(_, result, *__):
        found = cases.info(result)["xmp"]
        assert (found.encode() if isinstance(found, str) else found) == cases.XMP

    return {"kept": kept}


EXTENDED = cases.packet(f"<dc:source>{'long ' * 20000}</dc:source>")
MAIN, EXTENDED_PARTS = cases.extended_segments(EXTENDED)


def extended_kept(source, result, *_):
    def parts(data):
        found = [content for marker, content in cases.segments(data) if marker == cases.APP1]
        assert cases.XMP_HEADER + MAIN in found
        head = len(cases.EXTENDED_HEADER)
        pieces = [part[head:] for part in found if part.startswith(cases.EXTENDED_HEADER)]
        return b"".join(part[40:] for part in sorted(pieces, key=lambda part: part[36:40]))

    assert parts(source) == parts(result) == EXTENDED


def extended_joined(_, result, *__):
    found = cases.info(result)["xmp"]
    root = ElementTree.fromstring(found.strip(b"\0").decode())
    dc = "{http://purl.org/dc/elements/1.1/}"
    assert root.find(f".//{dc}source").text == "long " * 20000
    assert "Ío" in "".join(root.find(f".//{dc}rights").itertext())
    assert b"HasExtendedXMP" not in found


@check("extended XMP", jpg=cases.jpeg(*EXTENDED_PARTS))
def _extended():
    return {"kept": extended_kept, "joined": extended_joined}
