"""TIFF files whose last strips or tiles are not complete, as an interrupted copy leaves them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tiff_files
from tiff_files import IMAGE_CODECS, Layout, tiff

from refusion.errors import ImageError
from refusion.images.io import read_arrays

RGB = 2
BYTES = ["lzw", "deflate", "old deflate", "lzma", "zstd"]
PICTURES = [name for name in IMAGE_CODECS if name not in ("cmyk jpeg", "lerc")]
LAYOUTS = {
    "strips": {"rows": 20},
    "one strip": {"rows": 60},
    "tiles": {"tile": 64},
    "planes": {"rows": 60, "planar": True},
}


def photo(dtype):
    noise = np.random.default_rng(0).normal(0, 0.03, (60, 130, 3))
    waves = 0.5 + 0.3 * np.sin(np.mgrid[:60, :130].sum(0) / 9)[..., None]
    return ((waves + noise).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def file(dtype, codec, layout):
    """A file whose directory follows the strips or tiles, and its offset."""
    data = tiff(photo(dtype), Layout(8 * np.dtype(dtype).itemsize, RGB, codec, **LAYOUTS[layout]))
    return data, struct.unpack_from("<I", data, 4)[0]


def outcome(tmp_path, data):
    (tmp_path / "a.tif").write_bytes(data)
    try:
        return read_arrays(tmp_path / "a.tif").samples
    except ImageError as error:
        assert str(error).startswith(f"{tmp_path / 'a.tif'}: ") and "\n" not in str(error)
        return str(error)


def with_zeros(data, end, number):
    """The file with zeros in the place of the last bytes of its strips or tiles."""
    return data[: end - number] + bytes(number) + data[end:]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codec", BYTES)
@pytest.mark.parametrize("number", [80, 200, 800])
def test_zeros_in_the_place_of_coded_samples_are_found(tmp_path, dtype, layout, codec, number):
    data, end = file(dtype, codec, layout)
    assert outcome(tmp_path, data).shape == (3, 60, 130)
    assert isinstance(outcome(tmp_path, with_zeros(data, end, number)), str)


@pytest.mark.parametrize("layout", ["strips", "one strip", "tiles"])
@pytest.mark.parametrize("codec", PICTURES)
@pytest.mark.parametrize("number", [80, 200, 800])
def test_zeros_in_the_place_of_pictures_are_found(tmp_path, layout, codec, number):
    data, end = file(np.uint8, codec, layout)
    assert outcome(tmp_path, data).shape == (3, 60, 130)
    assert isinstance(outcome(tmp_path, with_zeros(data, end, number)), str)


@pytest.mark.parametrize("codec", sorted({*BYTES, *PICTURES} - {"png", "zstd"}))  # these refuse
def test_zeros_behind_complete_data_are_no_reason(tmp_path, monkeypatch, codec):
    data, _ = file(np.uint8, codec, "strips")
    coded = tiff_files._coded
    monkeypatch.setattr(tiff_files, "_coded", lambda *part: coded(*part) + bytes(100))
    padded, _ = file(np.uint8, codec, "strips")
    assert len(padded) == len(data) + 300
    assert np.array_equal(outcome(tmp_path, padded), outcome(tmp_path, data))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("codec", ["jpeg", "rgb jpeg", "ycbcr jpeg"])
def test_a_jpeg_that_is_shorter_than_its_strip_is_found(tmp_path, share, codec):
    data, end = file(np.uint8, codec, "one strip")
    count = int(share * (end - 8))
    short = tiff(photo(np.uint8), Layout(8, RGB, codec, rows=60), t279=(4, (count,)))
    assert "truncated, a strip or tile is not complete" in outcome(tmp_path, short)
    whole = tiff(photo(np.uint8), Layout(8, RGB, codec, rows=60), t279=(4, (end - 8 - 2,)))
    assert np.array_equal(outcome(tmp_path, whole), outcome(tmp_path, data))  # without its end


def test_wrong_samples_of_deflate_are_found_by_their_checksum(tmp_path):
    data, end = file(np.uint8, "deflate", "one strip")
    wrong = bytearray(data)
    wrong[end - 1] ^= 1
    assert "incorrect data check" in outcome(tmp_path, bytes(wrong))


def test_a_last_strip_that_is_filled_up_is_read(tmp_path):
    samples, layout = photo(np.uint8), Layout(8, RGB, "deflate", rows=25)
    more = np.pad(samples, ((0, 15), (0, 0), (0, 0)))  # 75 rows in three strips
    data = tiff(more, layout, t257=(4, (60,)))
    assert np.array_equal(outcome(tmp_path, data), samples.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codec", ["none", *BYTES, "packbits"])
def test_strips_behind_the_end_or_without_data_are_found(tmp_path, dtype, layout, codec):
    data, end = file(dtype, codec, layout)
    size, kind = len(data), Layout(8 * np.dtype(dtype).itemsize, RGB, codec, **LAYOUTS[layout])
    tags = (324, 325) if kind.tile else (273, 279)
    number = {"strips": 3, "one strip": 1, "tiles": 3, "planes": 3}[layout]
    for tag in tags:
        for value in (0, size, 2**31):
            values = (4, tuple([9] * (number - 1) + [value]))
            if (tag, codec) == (279, "none") or (tag, codec) == (325, "none"):
                continue  # some writers give wrong lengths of these
            message = outcome(tmp_path, tiff(photo(dtype), kind, **{f"t{tag}": values}))
            assert isinstance(message, str), (tag, value)
    assert isinstance(outcome(tmp_path, data[:end][: end // 2]), str)
