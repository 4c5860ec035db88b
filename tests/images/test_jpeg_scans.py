"""JPEG files of several scans with an end marker, although a part of the scans is missing."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageFile

from refusion.errors import ImageError
from refusion.images.io import read_arrays
from refusion.images.jpeg_scans import Scan, is_whole, read_scan
from refusion.images.jpeg_segments import Frame

END = b"\xff\xd9"
KINDS = {
    "colour": {"subsampling": 0},
    "half the colours": {"subsampling": 2},
    "restarts": {"subsampling": 2, "restart_marker_blocks": 3},
    "gray": {},
    "CMYK": {},
}
# Baseline, 32x24 pixels, one scan for each colour; `cjpeg -scans` of libjpeg-turbo wrote it.
THREE_SCANS = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwkA5CA9u8~`2wBLE%%82~5%BLE=)BLFP`D*z|}FaSINWB@?`JODQUHvl{UdjM"
    "DfT>wb{WB`!>fB=~QmH>|cfB=jDiU6Phv;gJ+!vLTFssP#mtpJJui~z_15dg~o+5qkV^#K9_1OWm7n*hN98v!o?7"
    "y$YKECA*J{Q&|1`2X7gLjfx-Ej%?mc0oaQ_@#`c`1ttv`1ttv`1ttv`1ttv`1ttv`1ttv`1ttv`1ttv`1ttv`1tt"
    "v`1ttv`1ttv`1t?901*fP7yuvx0TBQK5di}c0sq7R7ytkR0RaF20000000000000330|Ws7!~h=<00II60R;d600"
    "0000000000RL65fTI;A~9is|Jncu0RaF2KLE8`8j`ysBdL%UUJP`Z)Jx3dqVF;647KFdM0SY8<LJrb^f{@|ga5<;"
    "7y$qR0{{R30000000000000040RjX6!~hx*00II700000000000000000IF65+O1F+5iXv0ucZ|07C;+teK>`&<g"
    "{VpgSt-vQcwkL}9kG71w0RV3@L7OT+)f02cuO0|5X40000000000000010|Wy9!~hu)00RL50RR9100000000000"
    "09F6Arb%D00;pC5dc2`-gClgXQOA3RTiYYCa0c^k_{3vx58cTqh~<VXaCs"
)


def photo(kind, monkeypatch, size=(70, 90)):
    """A progressive JPEG, and the offsets of its scans."""
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 1 << 20)  # Pillow writes restart markers all at once
    shape = {"gray": size, "CMYK": (*size, 4)}.get(kind, (*size, 3))
    rng = np.random.default_rng(0)
    waves = (
        np.sin(np.mgrid[: size[0], : size[1]] / 7).sum(0).reshape(*size, *(1,) * (len(shape) - 2))
    )
    pixels = (128 + 50 * waves + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)
    mode, file = "CMYK" if kind == "CMYK" else None, io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "JPEG", quality=85, progressive=True, **KINDS[kind])
    return scans_of(file.getvalue())


def scans_of(data):
    return data, [match.start() for match in re.finditer(rb"\xff\xda", data)]


def outcome(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    try:
        return read_arrays(tmp_path / "a.jpg").samples
    except ImageError as error:
        assert str(error).startswith(f"{tmp_path / 'a.jpg'}: ") and "\n" not in str(error)
        return str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_scans_are_no_coarse_picture(tmp_path, monkeypatch, kind):
    data, scans = photo(kind, monkeypatch)
    assert len(scans) > 5
    for end in scans[1:]:
        message = outcome(tmp_path, data[:end] + END)
        assert "truncated, the last scans of its pixels are missing; copy it again" in message
        assert "save it anew" in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", [b"", b"more" * 50])
def test_a_cut_inside_of_the_last_scan_is_found(tmp_path, monkeypatch, kind, behind):
    data, scans = photo(kind, monkeypatch)
    begin = scans[-1] + 20
    for end in np.linspace(begin, len(data) - 40, 12).astype(int):
        message = outcome(tmp_path, data[:end].rstrip(b"\xff") + END + behind)
        assert "truncated, its pixels are not complete; copy it again" in message, end


@pytest.mark.parametrize("kind", ["restarts"])
def test_a_cut_at_a_restart_marker_is_found(tmp_path, monkeypatch, kind):
    data, scans = photo(kind, monkeypatch, (200, 90))
    marks = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    marks = [mark for mark in marks if mark > scans[-1]]
    assert len(marks) > 20
    for mark in (marks[0], marks[6], marks[7], marks[8], marks[-1]):
        for end in (mark, mark + 2):  # before and behind the marker
            assert "truncated" in outcome(tmp_path, data[:end] + END), (mark, end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.7])
@pytest.mark.parametrize("end", [b"", END])
def test_zeros_in_the_place_of_scans_are_found(tmp_path, monkeypatch, kind, part, end):
    data, scans = photo(kind, monkeypatch, (300, 400))
    cut = scans[-1] + int(part * (len(data) - scans[-1]))
    assert "truncated" in outcome(tmp_path, data[:cut] + bytes(len(data) - 2 - cut) + end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 33), (70, 90)])
def test_complete_photos_are_read(tmp_path, monkeypatch, kind, size):
    data, _ = photo(kind, monkeypatch, size)
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image).reshape(*size, -1)
    for before, behind in ((b"", b""), (b"\xff" * 3, b""), (bytes(80), b""), (b"", b"more" * 99)):
        found = outcome(tmp_path, data[:-2] + before + END + behind)
        assert found.shape == (3, *size)
        if kind not in ("CMYK", "gray"):
            assert np.array_equal(found, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("base", [0, 128, 255])
@pytest.mark.parametrize("more", [b"", bytes(80), bytes(2000)])
def test_a_progressive_photo_of_one_colour_is_read(tmp_path, base, more):
    file = io.BytesIO()
    Image.new("RGB", (300, 200), (base,) * 3).save(file, "JPEG", progressive=True)
    found = outcome(tmp_path, file.getvalue()[:-2] + more + END)
    assert np.ptp(found) == 0


def test_colours_in_scans_of_their_own(tmp_path):
    data, scans = scans_of(THREE_SCANS)
    assert len(scans) == 3
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(outcome(tmp_path, data), np.asarray(image).transpose(2, 0, 1))
    for end in scans[1:]:
        assert "the last scans of its pixels are missing" in outcome(tmp_path, data[:end] + END)
    assert "are not complete" in outcome(tmp_path, data[: scans[-1] + 20] + END)
    assert "truncated" in outcome(tmp_path, data[: scans[-1] + 6] + END)


def test_bits_and_colours_that_scans_leave_out():
    frame = Frame(0xC2, 8, 8, 2)
    means, rest = Scan((1, 2), 0, 0, 0), (Scan((1,), 1, 63, 0), Scan((2,), 1, 63, 0))
    assert is_whole(frame, (means, *rest))
    assert is_whole(frame, (Scan((1, 2), 0, 0, 1), *rest, means))
    assert is_whole(frame, (means, rest[0]))  # the standard allows it
    assert not is_whole(frame, (means, rest[1]))
    assert not is_whole(frame, rest)
    assert not is_whole(frame, (Scan((1,), 0, 0, 0), rest[0]))
    assert not is_whole(frame, (means, Scan((1,), 1, 5, 0), rest[1]))
    assert not is_whole(frame, (means, rest[0], Scan((2,), 1, 63, 1)))
    assert not is_whole(frame, (Scan((1, 2), 0, 0, 1), *rest))
    assert not is_whole(Frame(0xC0, 8, 8, 2), (Scan((1,), 0, 63, 0),))
    assert is_whole(frame, (means, Scan((1,), 1, 255, 0)))  # wrong, but no reason for an error


def test_the_header_of_a_scan():
    file = io.BytesIO(b"\0\x0a\2\1\0\3\x11\1\5\x21")
    assert read_scan(file, 0) == Scan((1, 3), 1, 5, 1)
    with pytest.raises(ValueError, match="truncated"):
        read_scan(file, 3)
