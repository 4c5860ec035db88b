"""Checks of `test_kept_blocks`: texts, chunks of PNG files, resolution, and what is dropped."""

from __future__ import annotations

import io
import struct
from xml.etree import ElementTree

import gain_map_cases as hdr
import metadata_cases as cases
import numpy as np
import pytest
from image_cases import noise
from kept_checks import by_format, check
from PIL import Image, ImageCms, IptcImagePlugin


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
    elif target == "tif":
        with Image.open(io.BytesIO(result)) as image:
            assert image.tag_v2[34377] == FLAG
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
    tif=cases.tiff({34377: THUMBNAIL + FLAG}),
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


def gain_map_kept(source, result, *_):
    photo, gain_map = hdr.parts(result)
    assert source.endswith(gain_map)
    assert hdr.listed_length(photo) == len(gain_map) and hdr.ISO + bytes(4) not in photo


@check("gain map of an HDR photo", jpg=hdr.ultra_hdr())
def _gain_map():
    lost = claims_removed("gain map (HDR)\n", b"hdrgm", b"GainMap", b"Item")
    return {"kept": gain_map_kept, "dropped": lost}


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
