"""JPEG files with an end marker, although a part of the coded pixels before it is missing."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from refusion.errors import ImageError
from refusion.images.io import read_arrays

KINDS = {
    "colour": {"subsampling": 0},
    "half the colours": {"subsampling": 2},
    "restarts": {"subsampling": 0, "restart_marker_rows": 1},
    "gray": {},
    "CMYK": {},
}


def photo(kind, base=None):
    """A JPEG of noise, or of one level; and the offset of its coded pixels."""
    shape = {"gray": (70, 90), "CMYK": (70, 90, 4)}.get(kind, (70, 90, 3))
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    pixels = noise if base is None else np.full_like(noise, base)
    file = io.BytesIO()
    mode = "CMYK" if kind == "CMYK" else None
    Image.fromarray(pixels, mode).save(file, "JPEG", quality=90, **KINDS[kind])
    data = file.getvalue()
    scan = data.index(b"\xff\xda")
    return data, scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")


def outcome(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    try:
        return read_arrays(tmp_path / "a.jpg").samples.shape
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [None, 255, 128, 0])
def test_missing_blocks_are_no_gray_part(tmp_path, kind, base):
    data, begin = photo(kind, base)
    for part in (0.2, 0.5, 0.9):
        cut = data[: begin + int(part * (len(data) - begin))].rstrip(b"\xff") + b"\xff\xd9"
        message = outcome(tmp_path, cut)
        assert "truncated, its pixels are not complete; copy it again" in message
        assert message.startswith(f"{tmp_path / 'a.jpg'}: ") and "\n" not in message


@pytest.mark.parametrize("base", [None, 255, 128, 0])
@pytest.mark.parametrize("interval", [{"restart_marker_rows": 1}, {"restart_marker_blocks": 3}])
def test_a_cut_at_a_restart_marker_is_found(tmp_path, base, interval):
    noise = np.random.default_rng(0).integers(0, 256, (200, 90, 3)).astype(np.uint8)
    pixels, file = noise if base is None else np.full_like(noise, base), io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", subsampling=0, **interval)
    data = file.getvalue()
    assert outcome(tmp_path, data) == (3, 200, 90)
    marks = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    assert len(marks) > 20
    for mark in (marks[0], marks[6], marks[7], marks[8], marks[15], marks[-1]):
        for end in (mark, mark + 2):  # before and behind the marker
            message = outcome(tmp_path, data[:end] + b"\xff\xd9" + b"more" * 50)
            assert "truncated" in message, (mark, end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [None, 255, 128, 0])
@pytest.mark.parametrize("more", [(b"", b""), (bytes(50), b""), (b"", b"more" * 99)])
def test_complete_photos_are_read(tmp_path, kind, base, more):
    data, _ = photo(kind, base)
    before, behind = more
    found = outcome(tmp_path, data[:-2] + before + data[-2:] + behind)
    assert found == (3, 70, 90)


def test_a_progressive_photo_of_one_colour_is_read(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (90, 70), "white").save(file, "JPEG", progressive=True)
    assert outcome(tmp_path, file.getvalue()) == (3, 70, 90)
