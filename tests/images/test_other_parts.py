"""Parts of a file that are no pixels: they take little memory, and harmless ones no warning."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib

import metadata_cases as cases
import numpy as np
import pytest
from test_memory_limits import GIBIBYTE, growth, needs_proc
from tiff_files import Layout, tiff

from refusion.errors import ImageError
from refusion.images.exif import DESCRIPTION, exif_texts
from refusion.images.header import read_header
from refusion.images.io import read_image
from refusion.images.source import MAX_BLOCKS, search

LARGE = 300 << 20


def enlarged(path, data):
    """Write a file that is filled up with zeros, which take no space on the disk."""
    path.write_bytes(data)
    os.truncate(path, LARGE)
    return path


@needs_proc
def test_what_follows_the_pixels_takes_no_memory(tmp_path):
    samples = np.zeros((16, 16, 1), np.uint8)
    paths = [
        enlarged(tmp_path / "behind.jpg", cases.picture("jpg") + b"x"),
        enlarged(tmp_path / "no_end.jpg", cases.picture("jpg")[:-2]),
        enlarged(tmp_path / "behind.png", cases.picture("png") + b"x"),
    ]
    for codec in ("none", "deflate", "lzw", "jpeg"):
        data = tiff(samples, Layout(8, 1, codec, rows=16), t279=(4, (LARGE - 1000,)))
        paths.append(enlarged(tmp_path / f"{codec}.tif", data))
    for path, (grown, message) in zip(paths, growth(paths, 0), strict=True):
        assert message == "read" and grown < 20, path


@pytest.mark.parametrize("name", ["chunk.png", "chunk.webp"])
def test_long_chunks_that_pillow_reads_count_for_the_limit(tmp_path, name):
    data = bytearray(cases.picture(name[6:]))
    if name == "chunk.png":
        struct.pack_into(">I", data, 33, LARGE - 100)
    else:
        struct.pack_into("<I", data, 4, LARGE - 8)
        struct.pack_into("<I", data, 16, LARGE - 20)
    path = enlarged(tmp_path / name, bytes(data))
    with path.open("rb") as file:
        memory = read_header(file, {"chunk.png": "PNG", "chunk.webp": "WEBP"}[name]).memory
    copies = {"chunk.png": 2, "chunk.webp": 3}[name]  # measured
    assert copies * LARGE - 1000 < memory < copies * LARGE + (9 << 20)
    with pytest.raises(ImageError, match="max memory: decoding 5x9 pixels"):
        read_image(path, max_memory=GIBIBYTE // 2)


def test_zeros_are_no_chunks_of_a_webp(tmp_path, caplog):
    data = bytearray(cases.picture("webp")) + bytes(1 << 24)
    struct.pack_into("<I", data, 4, len(data) - 8)
    (tmp_path / "a.webp").write_bytes(data)
    assert read_image(tmp_path / "a.webp").samples.shape == (3, 9, 5)
    assert "dropped" not in caplog.text


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_what_follows_the_pixels_is_counted(tmp_path, caplog, suffix):
    data = bytearray(cases.picture(suffix) + bytes(100) + b"abc")
    if suffix == "webp":  # its length says that the rest is part of the image
        struct.pack_into("<I", data, 4, len(data) - 8)
    (tmp_path / f"a.{suffix}").write_bytes(data)
    read_image(tmp_path / f"a.{suffix}")
    assert "dropped: 103 bytes behind the " in caplog.text


@pytest.mark.parametrize("place", range(2**17 - 9, 2**17 + 2))
def test_a_pattern_is_found_across_the_parts_of_a_file(place):
    file = io.BytesIO(bytes(place) + b"abcdefgh" + bytes(2**17))
    for start in (0, 5, place):
        assert search(file, start, re.compile(b"abcdefgh")) == (place, b"abcdefgh")
    assert search(file, place + 1, re.compile(b"abcdefgh")) is None


def test_a_description_in_utf_8_of_exif_3_is_kept(tmp_path, caplog):
    text = "Ío".encode()
    samples = np.zeros((16, 16, 1), np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(samples, Layout(8, 1), t270=(129, 3, text + bytes(1))))
    assert exif_texts(read_image(tmp_path / "a.tif").exif) == {DESCRIPTION: "Ío"}
    assert not caplog.text


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_all_blocks_together_have_a_limit(tmp_path, caplog, suffix):
    if suffix == "jpg":
        (tmp_path / "a.jpg").write_bytes(cases.jpeg(*[(cases.COM, bytes(60_000))] * 2300))
    else:
        content = bytes(MAX_BLOCKS // 4 - 100)
        chunk = cases.chunk(b"aaAa", content, crc=zlib.crc32(b"aaAa" + content))
        data = cases.picture("png")
        (tmp_path / "a.png").write_bytes(data[:33] + 5 * chunk + data[33:])
    photo = read_image(tmp_path / f"a.{suffix}")
    kept = len(photo.png_chunks) + sum(map(len, photo.comments))
    assert 0.99 * MAX_BLOCKS < kept <= MAX_BLOCKS
    assert caplog.text.count("metadata beyond 128 MB") == 1


PREVIEW, OTHER = 0x010001, 0x020003


def index(*kinds):
    """Multi-picture index (CIPA DC-007) of the photo and pictures of these kinds."""
    entries = b"".join(struct.pack(">4I", kind, 9, 9, 0) for kind in (0x030000, *kinds))
    head = struct.pack(">HHHII", 2, 0xB001, 4, 1, 1 + len(kinds))
    head += struct.pack(">HHII", 0xB002, 7, len(entries), 38) + bytes(4)
    return b"MPF\0MM\0*\0\0\0\x08" + head + entries


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        ((), "dropped: 1 more picture\n"),  # that the index does not list
        ((PREVIEW,), None),
        ((PREVIEW, 0x010002), None),
        ((OTHER,), "dropped: 1 more picture\n"),
        ((PREVIEW, OTHER, OTHER), "dropped: 2 more pictures\n"),
        ((0x80000000 | PREVIEW,), None),  # with a flag
    ],
)
def test_previews_are_left_out_like_thumbnails(tmp_path, caplog, kinds, name):
    behind = max(1, len(kinds)) * cases.picture("jpg")
    (tmp_path / "a.jpg").write_bytes(cases.jpeg((cases.APP2, index(*kinds)), behind=behind))
    read_image(tmp_path / "a.jpg")
    assert caplog.text.endswith(name) if name else not caplog.text


def test_settings_of_encoders_and_thumbnails_are_no_loss(tmp_path, caplog):
    settings = [(0xE0, b"JFXX\0\x10"), (0xEC, b"Ducky\0\1"), (cases.APP13, b"Adobe_CM\0\0\0")]
    (tmp_path / "a.jpg").write_bytes(cases.jpeg(*settings, (cases.COM, b"by hand")))
    assert read_image(tmp_path / "a.jpg").comments == (b"by hand",) and not caplog.text


def test_padding_of_windows_is_no_loss(tmp_path, caplog):
    (tmp_path / "a.tif").write_bytes(cases.tiff({59932: bytes(2000), 59933: 4}))
    read_image(tmp_path / "a.tif")
    assert not caplog.text
    (tmp_path / "a.tif").write_bytes(cases.tiff({59931: bytes(20)}))
    read_image(tmp_path / "a.tif")
    assert "dropped: TIFF tag 59931" in caplog.text
