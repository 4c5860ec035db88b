"""A damaged or hostile block of metadata never makes a sound photo unreadable, or takes long."""

from __future__ import annotations

import faulthandler
import io
import struct
import zlib
from xml.etree import ElementTree

import metadata_cases as cases
import numpy as np
import pytest
from image_cases import ICC, exif_block
from PIL import Image

from refusion.images.exif import exif_texts
from refusion.images.io import read_image, write_image

FORMATS = ["jpg", "png", "webp"]
LIMIT_S = 20  # of a test; all of them take some hundredths of a second


@pytest.fixture(autouse=True)
def _in_time():
    """End the process if a test hangs, also inside a regular expression, which blocks threads."""
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def restored(tmp_path, suffix, data, targets=("jpg", "png", "tif", "webp")):
    """Read a photo, write it in each format, and read each result; the photo as it was read."""
    (tmp_path / f"a.{suffix}").write_bytes(data)
    photo = read_image(tmp_path / f"a.{suffix}")
    with Image.open(io.BytesIO(cases.picture(suffix))) as image:
        assert photo.samples.numel() == np.asarray(image).size
    for target in targets:
        write_image(tmp_path / f"b.{target}", photo.samples, photo)
        read_image(tmp_path / f"b.{target}")
        with Image.open(tmp_path / f"b.{target}") as image:
            image.load()
            image.getexif().get_ifd(0x8769)
    return photo


def directory(order, entries, following=0):
    head = struct.pack(order + "H", len(entries))
    body = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return head + body + struct.pack(order + "I", following)


def block(order, *directories):
    """EXIF block whose directories lie one behind the other."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return mark + struct.pack(order + "I", 8) + b"".join(directories)


EXIF, GPS, INTEROP, SHORT_TEXT = 0x8769, 0x8825, 0xA005, (0x8298, 2, 3, 0x496F0000)
LOOPS = {
    "Exif to first": [[(EXIF, 4, 1, 8)]],
    "GPS to first": [[(GPS, 4, 1, 8)]],
    "both to first": [[(GPS, 4, 1, 8), (EXIF, 4, 1, 8)]],
    "Exif to Exif": [[(EXIF, 4, 1, 26)], [(EXIF, 4, 1, 26)]],
    "Interop to Exif": [[(EXIF, 4, 1, 26)], [(INTEROP, 4, 1, 26)]],
    "Interop to first": [[(EXIF, 4, 1, 26)], [(INTEROP, 4, 1, 8)]],
    "GPS and Exif are one": [[(GPS, 4, 1, 38), (EXIF, 4, 1, 38)], [(1, 2, 2, 0x4E000000)]],
    "two of Exif": [[(EXIF, 4, 1, 38), (EXIF, 4, 1, 38)], [(1, 2, 2, 0x4E000000)]],
    "pointer outside": [[(EXIF, 4, 1, 0xFFFFFFF0)]],
    "pointer is a short": [[(EXIF, 3, 1, 8)]],
    "many pointers": [[(EXIF, 4, 1000, 8)]],
    "value outside": [[(0x010E, 2, 100, 0x7FFFFFFF)]],
    "4e9 values": [[(0x010E, 5, 0xFFFFFFFF, 8)]],
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("loop", LOOPS)
def test_loops_of_directories_and_wild_offsets(tmp_path, caplog, suffix, loop, order):
    """The directory is visited once, and the other tags are kept."""
    text = struct.unpack(order + "I", b"Io\0\0")[0]
    first, *rest = LOOPS[loop]
    # The additional entry moves everything behind the first directory by 12 bytes.
    first = [(tag, kind, count, at + 12 * (26 <= at < 99)) for tag, kind, count, at in first]
    rest = [
        [(tag, kind, count, at + 12 * (26 <= at < 99)) for tag, kind, count, at in entries]
        for entries in rest
    ]
    first.append((0x8298, 2, 3, text))
    exif = block(order, directory(order, first, following=8), *(directory(order, e) for e in rest))
    photo = restored(tmp_path, suffix, cases.with_exif(suffix, exif))
    assert exif_texts(photo.exif) == {0x8298: "Io"}
    assert "damaged EXIF tag" in caplog.text
    for target in ("jpg", "png", "tif", "webp"):
        assert exif_texts(read_image(tmp_path / f"b.{target}").exif) == {0x8298: "Io"}


@pytest.mark.parametrize("pointer", [EXIF, GPS])
def test_loops_of_directories_in_a_tiff(tmp_path, pointer):
    data = bytearray(cases.tiff({0x8298: "Io", pointer: 8}))
    at = data.index(struct.pack("<HH", pointer, 4))
    struct.pack_into("<I", data, at + 8, struct.unpack_from("<I", data, 4)[0])  # to the first page
    photo = restored(tmp_path, "tif", bytes(data))
    assert exif_texts(photo.exif) == {0x8298: "Io"}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II+\0\x08\0\0\0\0\0\0\0\0\0",
        b"MM\0*\0\0\0\x08\xff\xff" + bytes(100),
        bytes(range(256)) * 200,
        b"II*\0\x08\0\0\0\xff\xff" + bytes(range(256)) * 200,
        block("<", directory("<", [(EXIF, 4, 1, 8)] * 4000)),
        block("<", directory("<", [(0x8298, 2, 40000, 8)] * 4000)),
    ],
    ids=[
        "empty",
        "header",
        "count",
        "version",
        "zeros",
        "junk",
        "junk entries",
        "pointers",
        "texts",
    ],
)
def test_junk_instead_of_exif(tmp_path, suffix, exif):
    restored(tmp_path, suffix, cases.with_exif(suffix, exif))


@pytest.mark.parametrize("kind", [*range(15), 16, 18, 129, 60000])
def test_tags_of_any_type_reach_every_format(tmp_path, kind):
    """Nothing depends on the type of a tag, and the tags of the file's layout are not copied."""
    tags = [254, 256, 258, 262, 270, 271, 273, 274, 279, 282, 296, 320, 330, 700, 33432, 33723]
    tags += [34665, 34675, 34853, 40092, 50706, 60000]
    entries = [(tag, kind, 1 + tag % 2, 0x01020304) for tag in tags]
    for order in ("<", ">"):
        exif = block(order, directory(order, entries))
        restored(tmp_path, "png", cases.with_exif("png", exif))


BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b']><x:xmpmeta xmlns:x="adobe:ns:meta/">&j;</x:xmpmeta>'
)
DAMAGED_CLAIM = b'<x xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0">'


@pytest.mark.parametrize("suffix", [*FORMATS, "tif"])
@pytest.mark.parametrize("xmp", [BOMB, DAMAGED_CLAIM], ids=["entities", "claim"])
def test_xmp_that_cannot_be_read_safely_is_dropped(tmp_path, caplog, suffix, xmp):
    assert restored(tmp_path, suffix, cases.with_xmp(suffix, xmp)).xmp is None
    assert "XMP packet that cannot be read" in caplog.text


@pytest.mark.parametrize("suffix", [*FORMATS, "tif"])
@pytest.mark.parametrize("xmp", [b"<x", b"\xff" * 99, b"<a>" * 15000], ids=["x", "ff", "deep"])
def test_xmp_without_a_claim_is_kept_though_damaged(tmp_path, suffix, xmp):
    photo = restored(tmp_path, suffix, cases.with_xmp(suffix, xmp))
    assert photo.xmp == xmp and read_image(tmp_path / "b.webp").xmp == xmp


def test_long_xmp_becomes_an_extended_packet_and_comes_back(tmp_path):
    xmp = cases.packet(cases.RIGHTS + f"<dc:source>{'long ' * 200000}</dc:source>")
    restored(tmp_path, "png", cases.with_xmp("png", xmp))
    again = read_image(tmp_path / "b.jpg")
    assert again.xmp_extended == xmp and len(again.xmp) < 1000
    write_image(tmp_path / "c.png", again.samples, again)
    root = ElementTree.fromstring(read_image(tmp_path / "c.png").xmp)
    assert "Ío" in "".join(root.itertext())


def broken_parts(parts):
    (marker, part) = parts[1]
    return {
        "missing": [parts[0], parts[1]],
        "changed": [parts[0], (marker, part[:-1] + b"?"), parts[2]],
        "other name": [parts[0]] + [(m, p.replace(p[35:67], b"0" * 32)) for m, p in parts[1:]],
        "short": [parts[0], (marker, part[:50])],
    }


@pytest.mark.parametrize("fault", ["missing", "changed", "other name", "short"])
def test_a_damaged_extended_packet_is_dropped_with_its_name(tmp_path, caplog, fault):
    _, parts = cases.extended_segments(cases.packet(f"<dc:source>{'x' * 999}</dc:source>"))
    photo = restored(tmp_path, "jpg", cases.jpeg(*broken_parts(parts)[fault]))
    assert photo.xmp_extended is None and b"HasExtendedXMP" not in photo.xmp
    assert "Ío".encode() in photo.xmp and "extended XMP" in caplog.text


def zipped(kind, keyword, text):
    head = keyword + (b"\0\1\0\0\0" if kind == b"iTXt" else b"\0\0")
    return kind, head + zlib.compress(text, 9)


LONG = b"<x>" + b"a" * 2_000_000 + b"</x>"
HUGE = zlib.compress(bytes(1 << 27), 9)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_long_compressed_xmp_is_kept(tmp_path, kind):
    data = cases.png(zipped(kind, b"XML:com.adobe.xmp", LONG))
    assert restored(tmp_path, "png", data).xmp == LONG
    assert read_image(tmp_path / "b.png").xmp == LONG


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp", b"Raw profile type exif"])
def test_compressed_bombs_are_dropped(tmp_path, caplog, keyword, where):
    bomb = cases.chunk(b"zTXt", keyword + b"\0\0" + HUGE)
    data = cases.png()
    at = 33 if where == "before" else len(data) - 12
    restored(tmp_path, "png", data[:at] + bomb + data[at:])
    assert "damaged or too long" in caplog.text


def test_a_thousand_bombs_take_bounded_time(tmp_path, caplog):
    bomb = b"Comment\0\0" + zlib.compress(bytes(2_000_000), 9)
    restored(tmp_path, "png", cases.png(*[(b"zTXt", bomb)] * 1000))
    assert len(caplog.text) < 2000


@pytest.mark.parametrize(
    "part",
    [
        (b"eXIf", exif_block(6)[6:]),
        (b"iCCP", b"x\0\0" + zlib.compress(ICC)),
        (b"gAMA", struct.pack(">I", 1)),
        (b"tEXt", b"Comment\0x"),
        (b"tRNS", bytes(6)),
        (b"zzZz", b"?"),
    ],
)
def test_a_wrong_checksum_of_an_ancillary_chunk(tmp_path, caplog, part):
    data = cases.png(part)
    at = data.index(part[0]) + 4 + len(part[1])
    photo = restored(tmp_path, "png", data[:at] + b"\0\0\0\0" + data[at + 4 :])
    assert photo.exif is None and photo.icc is None and photo.alpha is None
    assert f"damaged chunk {part[0].decode()}" in caplog.text


@pytest.mark.parametrize(
    "part",
    [
        (b"gAMA", b""),
        (b"cHRM", b"\xff" * 32),
        (b"cHRM", b"\xff"),
        (b"cICP", bytes(4)),
        (b"sBIT", b""),
        (b"sBIT", b"\0\0\0"),
        (b"bKGD", b""),
        (b"pHYs", bytes(9)),
        (b"pHYs", b"\xff" * 9),
        (b"pHYs", b"\xff" * 8 + b"\1"),
        (b"iCCP", b""),
        (b"iCCP", b"x\0\0junk"),
        (b"iCCP", b"x\0\0" + HUGE),
        (b"eXIf", b""),
        (b"tEXt", b""),
        (b"zTXt", b"Comment\0\0junk"),
        (b"iTXt", b"Comment\0\0"),
        (b"acTL", b""),
        *[(kind, b"Raw profile type exif\0\nexif\n  9\nzz") for kind in (b"tEXt",)],
        (b"tEXt", b"Raw profile type exif\0"),
        (b"tEXt", b"Raw profile type iptc\0\niptc\n" + b"9" * 5000 + b"\n00"),
        cases.raw_profile("iptc", b"8BIM\x04\x04\0\0\xff\xff\xff\xff"),
        cases.raw_profile("exif", b"Exif\0\0junk"),
        cases.raw_profile("xmp", b"junk"),
        cases.raw_profile("icc", b"junk"),
    ],
)
def test_odd_chunks(tmp_path, part):
    restored(tmp_path, "png", cases.png((b"gAMA", struct.pack(">I", 45455)), part))
    restored(tmp_path, "png", cases.png(part, part))


@pytest.mark.parametrize(
    "parts",
    [
        [(cases.APP13, b"Photoshop 3.0\0")],
        [(cases.APP13, b"Photoshop 3.0\0008BIM\x04\x04\0\0\xff\xff\xff\xff")],
        [(cases.APP13, b"Photoshop 3.0\0008BIM\x04\x04\xff")],
        [(cases.APP13, b"Photoshop 3.0\0" + cases.resource(0x0404, b"\x1c\x02\x78\xff\xff"))],
        [(cases.APP2, b"ICC_PROFILE\0")],
        [(cases.APP2, b"ICC_PROFILE\0\2\2" + ICC)],
        [(cases.APP2, b"ICC_PROFILE\0\0\0" + ICC)],
        [(cases.APP2, b"MPF\0")],
        [(cases.APP2, b"MPF\0II*\0\xff\xff\xff\xff")],
        [(0xEE, b"Adobe")],
        [(0xE0, b"JFIF\0\1\1\2\xff\xff\xff\xff\0\0")],
        [(0xE0, b"JFIF\0")],
        [(cases.APP1, b"")],
        [(cases.COM, b"")],
        [(cases.APP1, b"Exif\0\0" + bytes(60000))] * 20,
        [(0xE3, b"Meta\0\0"), (0xE5, b"\x1b[31m" + b"x" * 99)],
    ],
)
def test_odd_segments(tmp_path, caplog, parts):
    restored(tmp_path, "jpg", cases.jpeg(*parts))
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize(
    "part", [(b"EXIF", b""), (b"XMP ", b""), (b"ICCP", b""), (b"\x1b[3m", b"x"), (b"abcd", b"x")]
)
def test_odd_chunks_of_webp(tmp_path, caplog, part):
    restored(tmp_path, "webp", cases.webp(part))
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP ", b"ABCD"])
@pytest.mark.parametrize("length", [0, 3, 1000, 0xFFFFFFF0])
def test_a_chunk_of_webp_with_a_wrong_length(tmp_path, kind, length):
    data = cases.webp((kind, b"MM\0*\0\0\0\x08\0\0\0\0\0\0"))
    at = data.index(kind) + 4
    restored(tmp_path, "webp", data[:at] + struct.pack("<I", length) + data[at + 4 :])


@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_behind_the_image(tmp_path, caplog, suffix):
    restored(tmp_path, suffix, cases.picture(suffix) + bytes(99))
    assert "dropped" not in caplog.text
    restored(tmp_path, suffix, cases.picture(suffix) + b"secret")
    assert "6 bytes behind the" in caplog.text
