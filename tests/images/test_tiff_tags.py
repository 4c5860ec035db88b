"""Tags of any type and value: the photo, with or without a block, or one line; never a hang."""

from __future__ import annotations

import logging
import math
import struct
import time
from itertools import cycle

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiff_files import Layout, tiff

from refusion.errors import ImageError
from refusion.images.cache import upright_size
from refusion.images.io import read_image, write_image
from refusion.images.size import count_pixels

BYTE, TEXT, SHORT, LONG, FRACTION, SIGNED, FLOAT, DOUBLE = 1, 2, 3, 4, 5, 9, 11, 12
# Types and values that no tag expects, or that are far from what it expects.
WRONG = {
    "text": (TEXT, b"6\0"),
    "long text": (TEXT, b"a\x1b[31m\n" * 50),
    "bytes": (BYTE, b"\x01"),
    "list": (SHORT, (1, 2, 3, 4, 5, 6, 7, 8, 9)),
    "fraction": (FRACTION, (1, 3)),
    "fraction over 0": (FRACTION, (1, 0)),
    "float": (FLOAT, (1.5,)),
    "double": (DOUBLE, (1e300,)),
    "NaN": (DOUBLE, (math.nan,)),
    "negative": (SIGNED, (-1,)),
    "zero": (LONG, (0,)),
    "4 billion": (LONG, (4_000_000_000,)),
    "no value": (SHORT, 0, b""),
    "very many values": (SHORT, 2**32 - 1, struct.pack("<I", 8)),
    "a million values": (LONG, 10**6, struct.pack("<I", 8)),
    "outside the file": (LONG, 9, struct.pack("<I", 2**31)),
    "unknown type": (99, 1, b"\x01"),
}
LAYOUT_TAGS = (254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 338, 339)
LAYOUT_TAGS += (320, 322, 323, 324, 325, 332, 347, 530, 32997, 50706)
BLOCK_TAGS = (270, 274, 282, 283, 296, 305, 306, 315, 330, 700, 33432, 33723, 34377, 34665, 34675)
BLOCK_TAGS += (34853, 280, 281, 340, 65000)
SAMPLES = np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3)
RGB = Layout(8, 2, "deflate", 2)


@pytest.mark.parametrize("tag", LAYOUT_TAGS)
def test_wrong_tags_of_the_layout_are_one_line(tmp_path, tag):
    path = tmp_path / "a.tif"
    for wrong, entry in WRONG.items():
        path.write_bytes(tiff(SAMPLES, RGB, **{f"t{tag}": entry}))
        count = count_pixels(path)
        assert type(count) is int and count >= 0, wrong
        try:
            photo = read_image(path, max_pixels=10**6)
        except ImageError as error:
            text = str(error).removeprefix(f"{path}: ")
            assert text != str(error) and text.isprintable() and len(text) < 300, wrong
        else:
            assert count == photo.samples.shape[1] * photo.samples.shape[2], wrong


@pytest.mark.parametrize("tag", BLOCK_TAGS)
def test_wrong_tags_of_the_metadata_are_ignored(tmp_path, monkeypatch, tag):
    path = tmp_path / "a.tif"
    monkeypatch.setattr("os.fsync", lambda _: None)  # saves most of the time
    for (wrong, entry), suffix in zip(WRONG.items(), cycle(("tif", "jpg", "png", "webp"))):
        path.write_bytes(tiff(SAMPLES, RGB, **{f"t{tag}": entry}))
        photo = read_image(path)
        assert np.array_equal(photo.samples.permute(1, 2, 0).numpy(), SAMPLES), wrong
        assert count_pixels(path) == 63 and upright_size(path) == (9, 7), wrong
        result = tmp_path / f"b.{suffix}"
        write_image(result, photo.samples, photo)
        with Image.open(result) as written:
            written.load()
            assert written.size == (9, 7), wrong


@pytest.mark.parametrize("tag", [700, 33723, 34675])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_blocks_that_are_not_bytes_are_dropped_with_one_warning(tmp_path, caplog, tag, suffix):
    kind = FRACTION if tag == 33723 else LONG  # some writers store IPTC records as LONG
    (tmp_path / "a.tif").write_bytes(tiff(SAMPLES, RGB, **{f"t{tag}": (kind, (7, 7))}))
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / f"b.{suffix}", photo.samples, photo)
    assert len(caplog.records) == 1 and "expected bytes" in caplog.text
    assert photo.xmp is None and photo.iptc is None and photo.icc is None


def test_a_width_that_is_a_text_is_named(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(SAMPLES, RGB, t256=(TEXT, b"9\0")))
    with pytest.raises(ImageError, match="tag ImageWidth is text, expected an integer from 1"):
        read_image(tmp_path / "a.tif")
    assert count_pixels(tmp_path / "a.tif") == 0


def test_all_integer_types_are_integers(tmp_path):
    for kind in (BYTE, SHORT, LONG, SIGNED):
        values = b"\x09" if kind == BYTE else (9,)
        (tmp_path / "a.tif").write_bytes(tiff(SAMPLES, RGB, t256=(kind, values)))
        assert np.array_equal(read_image(tmp_path / "a.tif").samples[2].numpy(), SAMPLES[..., 2])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("following", [-1, 3, 2**31 - 1])
def test_loops_of_pages_end(tmp_path, big, following):
    layout = Layout(8, 2, big=big)
    (tmp_path / "a.tif").write_bytes(tiff(SAMPLES, layout, following))
    photo = read_image(tmp_path / "a.tif")
    assert np.array_equal(photo.samples.permute(1, 2, 0).numpy(), SAMPLES)


def test_pages_that_overlap_are_counted_in_no_time(tmp_path, caplog):
    """9,000 directories of 4,095 entries each in 300 KB; their entries would take a minute."""
    data = bytearray(tiff(SAMPLES, Layout(8, 2), 4096).ljust(300_000, b"\0"))
    for start in range(4096, 4096 + 9000 * 24, 24):
        struct.pack_into("<H", data, start, 4095)
        struct.pack_into("<I", data, start + 2 + 4095 * 12, start + 24)
    (tmp_path / "a.tif").write_bytes(data)
    begin = time.process_time()
    read_image(tmp_path / "a.tif")
    assert time.process_time() - begin < 10
    assert "9002 pages, only the first page is used" in caplog.text


def test_pages_and_inner_images_are_counted_in_one_warning(tmp_path, caplog):
    small = np.ascontiguousarray(SAMPLES[::2, ::2])
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SAMPLES, subifds=2, photometric="rgb")
        file.write(small, subfiletype=1, photometric="rgb")
        file.write(small, subfiletype=1, photometric="rgb")
        file.write(SAMPLES, photometric="rgb")
        file.write(SAMPLES, photometric="rgb")
    read_image(tmp_path / "a.tif")
    (record,) = caplog.records
    assert "3 pages and 2 images inside the first, only the first page" in record.getMessage()


@pytest.mark.parametrize(
    "options",
    [{}, {"imagej": True}, {"ome": True}, {"metadata": {"axes": "ZYXS"}}, {"description": "Sky"}],
)
def test_results_of_several_pages_are_read_by_tifffile(tmp_path, options):
    """tifffile reads files by descriptions that list the pages, so the result has none."""
    pages = np.stack([SAMPLES, 255 - SAMPLES, SAMPLES])
    if "description" in options:
        options = {"metadata": None} | options
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb", **options)
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", photo.samples, photo)
    with tifffile.TiffFile(tmp_path / "b.tif") as result:
        assert len(result.pages) == 1 and len(result.series) == 1
        assert np.array_equal(result.asarray(), SAMPLES)
        assert result.pages[0].description == options.get("description", "")
    with Image.open(tmp_path / "b.tif") as result:
        assert result.n_frames == 1 and np.array_equal(np.asarray(result), SAMPLES)


def test_texts_and_the_profile_of_a_white_is_zero_page_are_kept(tmp_path):
    logging.getLogger("tifffile").setLevel(logging.ERROR)
    texts = {"t315": (TEXT, b"Ann\0"), "t33432": (TEXT, b"(c) Ann\0"), "t270": (TEXT, b"Sky\0")}
    blocks = {"t34675": (7, b"profile " * 20), "t280": (SHORT, (0,)), "t281": (SHORT, (255,))}
    gray = SAMPLES[..., :1].copy()
    (tmp_path / "a.tif").write_bytes(tiff(gray, Layout(8, 0, "zstd"), **texts, **blocks))
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", photo.samples, photo)
    with tifffile.TiffFile(tmp_path / "b.tif") as result:
        tags = result.pages[0].tags
        assert np.array_equal(result.asarray(), 255 - gray[..., 0])
        assert tags.valueof(315) == "Ann" and tags.valueof(33432) == "(c) Ann"
        assert tags.valueof(270) == "Sky" and tags.valueof(34675) == b"profile " * 20


def test_strips_and_tiles_without_data_or_beyond_the_file(tmp_path):
    for change, reason in (
        ({"t279": (LONG, (0, 1, 1, 1))}, None),
        ({"t273": (LONG, (0, 8, 8, 8))}, "without data"),
        ({"t273": (LONG, (8,))}, "1 strips or tiles, expected 4"),
        ({"t273": (LONG, (8, 8, 8, 2**30))}, "truncated, expected"),
    ):
        (tmp_path / "a.tif").write_bytes(tiff(SAMPLES, Layout(8, 2, rows=2), **change))
        if reason is None:  # the lengths of uncompressed strips are known
            read_image(tmp_path / "a.tif")
            continue
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / "a.tif")
