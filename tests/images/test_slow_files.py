"""Small files that would take minutes or gigabytes are read in no time, or refused in one line."""

from __future__ import annotations

import faulthandler
import hashlib
import io
import struct
import tracemalloc
import zlib

import imagecodecs
import metadata_cases as cases
import numpy as np
import pytest
import tiff_files
from PIL import Image
from tiff_files import Layout, tiff

from refusion.errors import ImageError
from refusion.images import tiff_segments
from refusion.images.exif import upright_exif
from refusion.images.io import read_image, write_image
from refusion.images.xmp import sized_xmp
from refusion.images.xmp_extended import joined_xmp

LIMIT_S = 20  # of a test; all of them take some tenths of a second
COPYRIGHT, DESCRIPTION, DEFLATE, JPEG2K = 0x8298, 0x010E, 8, 34712


@pytest.fixture(autouse=True)
def _in_time():
    """End the process if a test hangs, also inside a regular expression, which blocks threads."""
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def restored(tmp_path, suffix, data):
    (tmp_path / f"a.{suffix}").write_bytes(data)
    photo = read_image(tmp_path / f"a.{suffix}")
    for target in ("jpg", "png", "tif", "webp"):
        write_image(tmp_path / f"b.{target}", photo.samples, photo)
    return photo


def exif(tag, count, size, text):
    """EXIF block with `count` entries of one tag, which all refer to one text."""
    entry = struct.pack("<HHII", tag, 2, size, 8 + 2 + 12 * count + 4)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entry * count + bytes(4) + text


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_spaces_inside_a_tag_of_xmp(tmp_path, suffix):
    spaces = " " * 60_000
    space = 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    xmp = cases.packet("", f'{space} tiff:ImageWidth="3"{spaces}')
    photo = restored(tmp_path, suffix, cases.with_xmp(suffix, xmp))
    assert b'tiff:ImageWidth="5"' in photo.xmp and spaces.encode() in photo.xmp


def test_millions_of_attributes_of_xmp_are_not_parsed():
    """The packet keeps its size as it is stated; a list of all attributes takes gigabytes."""
    attributes = "".join(f' a{number:x}=""' for number in range(1_000_001))
    xmp = (
        f'<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageWidth="3"{attributes}/>'.encode()
    )
    tracemalloc.start()
    assert sized_xmp(xmp, 5, 9) == xmp
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_text_of_exif_that_is_listed_many_times(tmp_path, suffix):
    text = b"me".ljust(2_000_000)
    data = cases.with_exif(suffix, exif(COPYRIGHT, 60_000, len(text), text))
    assert restored(tmp_path, suffix, data).exif is not None


def test_many_colour_profiles_of_a_png(tmp_path, caplog):
    bomb = b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 25) + b"a")
    sound = b"iCCP", b"a\0\0" + zlib.compress(bytes((1 << 25) - 1))
    photo = restored(tmp_path, "png", cases.png(*[bomb] * 400, *[sound] * 400))
    assert photo.icc is None and "damaged ICC profile" in caplog.text
    photo = restored(tmp_path, "png", cases.png(*[sound] * 400))
    assert len(photo.icc) == (1 << 25) - 1 and "second ICC profile" in caplog.text


def test_many_texts_beside_a_long_description(tmp_path, caplog):
    text = b"ab" * 4_000_000
    texts = [(b"tEXt", b"Copyright\0b%d" % number) for number in range(60_000)]
    block = b"eXIf", exif(DESCRIPTION, 1, len(text), text)
    restored(tmp_path, "png", cases.png(block, *texts))
    assert "dropped, no place in a WEBP: text 'Copyright'" in caplog.text


def test_prefixes_that_every_part_of_an_extended_packet_needs():
    spaces = "".join(f' xmlns:p{number}="http://{"a" * 300}/{number}"' for number in range(190))
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    packet = f'<x{spaces}><rdf:RDF xmlns:rdf="{rdf}">%s</rdf:RDF></x>'
    extended = (packet % ("<rdf:Description/>" * 100_000)).encode()
    name = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()
    main = cases.packet(
        f'xmpNote:HasExtendedXMP="{name}"', 'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    )
    assert joined_xmp(main, extended) is None
    assert len(joined_xmp(main, (packet % "<rdf:Description/>").encode())) > 60_000


def many_scans(size):
    """A progressive JPEG whose last scan is repeated."""
    file = io.BytesIO()
    Image.new("L", size, 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 20_000 + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(many_scans((4000, 4000)))
    with pytest.raises(ImageError, match=r"a\.jpg: .*more than 500 scans"):
        read_image(tmp_path / "a.jpg")


def test_many_scans_behind_many_other_markers_are_refused(tmp_path):
    data = many_scans((4000, 4000))
    at = data.index(b"\xff\xda") + 20
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\xff\x01" * 100_000 + data[at:])
    with pytest.raises(ImageError, match=r"a\.jpg: .*more than 100000 markers"):
        read_image(tmp_path / "a.jpg")


def picture(monkeypatch, code, coded):
    """A TIFF of 16x16 pixels with a picture that is already coded."""
    monkeypatch.setitem(tiff_files.IMAGE_CODECS, "given", (code, lambda _: coded))
    return tiff(np.zeros((16, 16, 1), np.uint8), Layout(8, 1, "given", rows=16))


def test_a_jpeg_of_many_scans_inside_a_tiff_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.tif").write_bytes(picture(monkeypatch, 7, many_scans((16, 16))))
    with pytest.raises(ImageError, match=r"a\.tif: .*more than 500 scans"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("container", [0, 2])
@pytest.mark.parametrize("fault", ["size", "tiles", "none"])
def test_the_header_of_a_jpeg_2000_picture_is_checked(tmp_path, monkeypatch, container, fault):
    coded = imagecodecs.jpeg2k_encode(
        np.full((16, 16), 7, np.uint8), level=0, codecformat=container
    )
    coded, at = bytearray(coded), coded.index(b"\xff\x4f\xff\x51") + 8
    if fault == "size":
        coded[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    elif fault == "tiles":
        coded[at + 16 : at + 24] = bytes(8)
    (tmp_path / "a.tif").write_bytes(picture(monkeypatch, JPEG2K, bytes(coded)))
    monkeypatch.setattr("refusion.images.tiff_segments._MAX_TILES", 10)
    if fault == "none":
        assert (read_image(tmp_path / "a.tif").samples == 7).all()
        return
    with pytest.raises(ImageError, match="JPEG 2000 picture of"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("behind", "calls"), [(b"b", 1), (b"\0", 2)])  # once without the zeros
def test_strips_that_all_refer_to_the_same_long_part(tmp_path, monkeypatch, behind, calls):
    """1,000 strips of one pixel, each with a megabyte behind its only code."""
    count, coded = 1000, zlib.compress(b"a") + behind * (1 << 20)
    lengths, inflate = [], tiff_segments.BYTES[DEFLATE]

    def recorded(data, out):
        lengths.append(len(data))
        return inflate(data, out=out)

    monkeypatch.setitem(tiff_segments.BYTES, DEFLATE, recorded)
    monkeypatch.setitem(tiff_files.BYTE_CODECS, "deflate", (DEFLATE, lambda _: coded))
    tags = {"t257": (4, (count,)), "t273": (4, (8,) * count), "t279": (4, (len(coded),) * count)}
    samples = np.full((1, 1, 1), 97, np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(samples, Layout(8, 1, "deflate", rows=1), **tags))
    assert (read_image(tmp_path / "a.tif").samples == 97).all()
    assert len(lengths) == calls * count and sum(lengths) < 300_000_000


def test_a_size_with_several_values_keeps_its_offset():
    """The entry holds the offset of the values, which is not the size of the image."""
    block = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0100, 4, 2, 26) + bytes(12)
    assert upright_exif(block, 30, 20) == block
