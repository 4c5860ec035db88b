"""The table of docs/using.md: what becomes of each block of metadata in each format.

The cells come from the page. Each is checked with files of every format that can hold the block.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import metadata_cases as cases
import numpy as np
import pytest
from image_cases import noise
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin

from refusion.images.io import read_image, write_image

FORMATS = ["jpg", "png", "tif", "webp"]
PAGE = Path(__file__).parents[2] / "docs" / "using.md"
ROWS = {
    cells[0]: dict(zip(FORMATS, cells[1:], strict=True))
    for cells in re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    if cells[0] != "block"
}
CHECKS = {}


def check(row, **sources):
    """Register the check of a row: source files by format, and a function for each word."""

    def register(words):
        CHECKS[row] = (sources, words())
        return words

    return register


def by_format(build, formats=FORMATS):
    return {suffix: build(suffix) for suffix in formats}


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("row", ROWS)
def test_every_cell_of_the_page(tmp_path, caplog, row, target):
    sources, words = CHECKS[row]
    word = ROWS[row][target]
    assert sources
    for suffix, source in sources.items():
        caplog.clear()
        (tmp_path / f"a.{suffix}").write_bytes(source)
        photo = read_image(tmp_path / f"a.{suffix}")
        write_image(tmp_path / f"b.{target}", photo.samples, photo)
        result = (tmp_path / f"b.{target}").read_bytes()
        warnings = [record for record in caplog.records if "dropped" in record.message]
        has_warning = word in ("dropped", "shortened") or words.get("warns") == target
        assert len(warnings) == has_warning, caplog.text
        words[word](source, result, target, caplog.text)
        again = read_image(tmp_path / f"b.{target}")  # the result has no damaged block
        assert again.samples.shape == photo.samples.shape


def test_the_checks_are_those_of_the_page():
    assert set(CHECKS) == set(ROWS) and len(ROWS) == 20


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


def iptc_kept(_, result, target, __):
    if target == "png":
        (text,) = [content for kind, content in cases.chunks(result) if kind == b"zTXt"]
        assert text.startswith(b"Raw profile type iptc\0")
        with Image.open(io.BytesIO(result)) as image:
            lines = image.info["Raw profile type iptc"].split("\n")
        assert bytes.fromhex("".join(lines[3:])) == cases.resource(0x0404, cases.IPTC)
        return
    with Image.open(io.BytesIO(result)) as image:
        records = IptcImagePlugin.getiptcinfo(image)
    assert records == {(2, 116): b"(c) Io", (2, 80): b"Io", (2, 120): b"Sea"}


def credits_in_exif(_, result, *__):
    tags = cases.exif_tags(result)
    assert (tags[0x8298], tags[0x013B], tags[0x010E]) == ("(c) Io", "Io", "Sea")


PHOTOSHOP = b"Photoshop 3.0\0" + cases.resource(0x0404, cases.IPTC)


@check(
    "IPTC",
    jpg=cases.jpeg((cases.APP13, PHOTOSHOP)),
    png=cases.png(cases.raw_profile("iptc", cases.resource(0x0404, cases.IPTC))),
    tif=cases.tiff({33723: cases.IPTC}),
)
def _iptc():
    return {"kept": iptc_kept, "in EXIF": credits_in_exif, "warns": "webp"}


FLAG, THUMBNAIL = cases.resource(0x040A, b"\1"), cases.resource(0x040C, cases.picture("jpg"))


def resources_kept(_, result, target, __):
    if target == "jpg":
        found = [content for marker, content in cases.segments(result) if marker == cases.APP13]
        assert found == [b"Photoshop 3.0\0" + FLAG]
    else:
        with Image.open(io.BytesIO(result)) as image:
            lines = image.info["Raw profile type 8bim"].split("\n")
        assert bytes.fromhex("".join(lines[3:])) == FLAG


def dropped(name):
    def is_dropped(_, result, target, log):
        assert name in log
        assert name.encode() not in result

    return is_dropped


@check(
    "Photoshop resources",
    jpg=cases.jpeg((cases.APP13, b"Photoshop 3.0\0" + THUMBNAIL + FLAG)),
    png=cases.png(cases.raw_profile("8bim", b"Photoshop 3.0\0" + THUMBNAIL + FLAG)),
)
def _resources():
    return {"kept": resources_kept, "dropped": dropped("Photoshop resources")}


def comments_kept(_, result, target, __):
    if target == "jpg":
        found = [content for marker, content in cases.segments(result) if marker == cases.COM]
        assert found == [b"(c) Io", "Ío".encode()]
    else:
        found = [content for kind, content in cases.chunks(result) if kind in (b"tEXt", b"iTXt")]
        assert found == [b"Comment\0(c) Io", b"Comment\0\xcdo"]


def comments_in_exif(_, result, *__):
    tags = cases.exif_tags(result)
    assert tags[0x010E] == "(c) Io"
    assert bytes(tags[0x9C9C]).decode("utf-16-le").rstrip("\0") == "Ío"


@check("comments of a JPEG", jpg=cases.jpeg((cases.COM, b"(c) Io"), (cases.COM, "Ío".encode())))
def _comments():
    return {"kept": comments_kept, "in EXIF": comments_in_exif}


TEXTS = {"Copyright": "(c) Io", "Author": "Io", "Description": "Sea", "Title": "T", "Software": "S"}


def texts_kept(source, result, *_):
    def texts(data):
        return [part for part in cases.chunks(data) if part[0] in (b"tEXt", b"zTXt", b"iTXt")]

    assert texts(source) and texts(source) == texts(result)


def texts_in_exif(_, result, *__):
    credits_in_exif(_, result)
    tags = cases.exif_tags(result)
    assert tags[0x0131] == "S" and bytes(tags[0x9C9B]) == b"T\0\0\0"


@check(
    "PNG texts Copyright, Author, Description, Title, Software",
    png=cases.png(*((b"tEXt", f"{key}\0{text}".encode()) for key, text in TEXTS.items())),
)
def _texts():
    return {"kept": texts_kept, "in EXIF": texts_in_exif}


@check("PNG text Comment", png=cases.png((b"tEXt", b"Comment\0(c) Io")))
def _comment():
    def kept(source, result, target, _):
        if target == "png":
            texts_kept(source, result)
        else:
            assert (cases.COM, b"(c) Io") in cases.segments(result)

    def in_exif(_, result, *__):
        assert cases.exif_tags(result)[0x010E] == "(c) Io"

    return {"kept": kept, "in EXIF": in_exif}


@check("other PNG texts", png=cases.png((b"iTXt", b"Mood\0\0\0\0\0good")))
def _other_texts():
    return {"kept": texts_kept, "dropped": dropped("Mood")}


def colours_kept(_, result, *__):
    assert (b"gAMA", struct.pack(">I", 100000)) in cases.chunks(result)


def linear_profile(_, result, *__):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(cases.info(result)["icc_profile"]))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB", 1)
    source = Image.new("RGB", (1, 1), (10, 128, 200))
    shown = np.array(ImageCms.applyTransform(source, transform).getpixel((0, 0)))
    light = np.array((10, 128, 200)) / 255
    assert np.abs(shown - 255 * (1.055 * light ** (1 / 2.4) - 0.055)).max() <= 1


@check("PNG colours (gAMA, cHRM, cICP)", png=cases.png((b"gAMA", struct.pack(">I", 100000))))
def _colours():
    return {"kept": colours_kept, "as ICC": linear_profile}


@check(
    "PNG chunks sBIT, bKGD",
    png=cases.png((b"sBIT", b"\5\6\5"), (b"bKGD", struct.pack(">HHH", 1, 2, 3))),
)
def _pixel_chunks():
    def kept(source, result, *_):
        for part in [(b"sBIT", b"\5\6\5"), (b"bKGD", struct.pack(">HHH", 1, 2, 3))]:
            assert part in cases.chunks(source) and part in cases.chunks(result)

    def lost(_, __, ___, log):
        assert "sBIT" in log and "bKGD" in log

    return {"kept": kept, "dropped": lost}


def resolution(suffix):
    return cases.picture(suffix, dpi=(300, 240)) if suffix != "webp" else webp_with_resolution()


def webp_with_resolution():
    block = Image.Exif()
    block[0x011A], block[0x011B], block[0x0128] = 300.0, 240.0, 2
    return cases.webp((b"EXIF", block.tobytes()))


def resolution_kept(_, result, *__):
    assert cases.info(result)["dpi"] == pytest.approx((300, 240), abs=0.02)


def resolution_in_exif(_, result, *__):
    tags = cases.exif_tags(result)
    assert (tags[0x011A], tags[0x011B], tags[0x0128]) == (
        pytest.approx(300, abs=0.02),
        pytest.approx(240, abs=0.02),
        2,
    )


@check("resolution", **by_format(resolution))
def _resolution():
    return {"kept": resolution_kept, "in EXIF": resolution_in_exif}


MAP = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
ITEMS = (
    '<c:Directory xmlns:c="http://ns.google.com/photos/1.0/container/" '
    'xmlns:i="http://ns.google.com/photos/1.0/container/item/"><rdf:Seq><rdf:li '
    'rdf:parseType="Resource"><c:Item i:Semantic="{}" i:Length="9"/></rdf:li></rdf:Seq>'
    "</c:Directory>"
)
CAMERA = 'xmlns:g="http://ns.google.com/photos/1.0/camera/" g:MotionPhoto="1" g:BurstID="7"'


def index(count):
    """Multi-picture index (CIPA DC-007) with a number of pictures."""
    return b"MPF\0MM\0*\0\0\0\x08\0\1" + struct.pack(">HHII", 0xB001, 4, 1, count) + bytes(4)


def claims_removed(name, *claims):
    def check_claims(_, result, target, log):
        assert name in log
        found = cases.info(result).get("xmp") or b""
        assert not [claim for claim in claims if claim in found]
        if found:
            root = ElementTree.fromstring(found.strip(b"\0").decode())
            assert "Ío" in "".join(root.itertext())
        with Image.open(io.BytesIO(result)) as image:
            assert getattr(image, "n_frames", 1) == 1
        assert b"ftyp" not in result and b"MPF\0" not in result and b"jumb" not in result

    return check_claims


@check(
    "gain map of an HDR photo",
    jpg=cases.jpeg(
        (
            cases.APP1,
            cases.XMP_HEADER + cases.packet(cases.RIGHTS + ITEMS.format("GainMap"), MAP),
        ),
        (cases.APP2, index(2)),
        (cases.APP2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)),
        behind=cases.picture("jpg"),
    ),
)
def _gain_map():
    return {"dropped": claims_removed("dropped: gain map (HDR)\n", b"hdrgm", b"GainMap", b"Item")}


@check(
    "film of a motion photo",
    jpg=cases.jpeg(
        (
            cases.APP1,
            cases.XMP_HEADER + cases.packet(cases.RIGHTS + ITEMS.format("MotionPhoto"), CAMERA),
        ),
        behind=b"\0\0\0\x18ftypmp42" + noise(20, 20, 1).tobytes(),
    ),
)
def _film():
    return {"dropped": claims_removed("film (motion photo)", b"MotionPhoto", b"Semantic")}


@check(
    "further pictures in a JPEG",
    jpg=cases.jpeg((cases.APP2, index(3)), behind=2 * cases.picture("jpg")),
)
def _pictures():
    return {"dropped": claims_removed("2 more pictures")}


@check(
    "content credentials (C2PA)",
    jpg=cases.jpeg((cases.APP11, b"JP\0\1\0\0\0\1\0\0\0\x20jumb" + bytes(20))),
    png=cases.png((b"caBX", b"\0\0\0\x20jumb" + bytes(20))),
    webp=cases.webp((b"C2PA", b"\0\0\0\x20jumb" + bytes(20))),
)
def _credentials():
    return {"dropped": claims_removed("content credentials (C2PA)")}
