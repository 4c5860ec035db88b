"""Depth maps inside photos: each form gives the same relative disparity, upright."""

from __future__ import annotations

import base64
import io
import re
import struct
import sys
import zlib

import depth_cases as depth
import gain_map_cases as hdr
import metadata_cases as cases
import numpy as np
import pytest
from PIL import Image, ImageOps

from refusion.errors import ImageError
from refusion.images.depth_map import has_depth_map, read_depth_map
from refusion.images.io import read_image, write_image


def read(tmp_path, data, name="a.jpg"):
    (tmp_path / name).write_bytes(data)
    return read_depth_map(tmp_path / name)


def check(found, expected=None, largest=0.04):
    """Up to scale and offset the map is that of the scene."""
    expected = depth.disparity() if expected is None else expected
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert found.min() >= 0 and found.max() <= 1
    slope, offset = np.polyfit(found.flatten(), expected.flatten(), 1)
    assert slope > 0
    error = np.abs(slope * found + offset - expected)
    assert error.mean() < largest / 4 and np.quantile(error, 0.98) < largest


FORMS = {
    "GDepth, inverse": depth.gdepth(),
    "GDepth, linear": depth.gdepth("RangeLinear", bits=16),
    "GDepth, JPEG in one packet": depth.gdepth(kind="JPEG", extended=False),
    "Dynamic Depth, inverse": depth.dynamic_depth(),
    "Dynamic Depth, linear": depth.dynamic_depth(
        "RangeLinear", coded=depth.picture(depth.stored("RangeLinear"), bits=16), padding=9
    ),
    "container of Google": depth.container(),
    "Apple, disparity": depth.apple(),
    "Apple, depth in metres": depth.apple(
        "depth", b"hdep", values=(1 / (depth.disparity() * 7.5 + 0.5) - 0.125) / 1.875
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(tmp_path, form):
    check(read(tmp_path, FORMS[form]))
    assert has_depth_map(tmp_path / "a.jpg")


def test_16_bits_stay(tmp_path):
    found = read(tmp_path, depth.gdepth("RangeLinear", bits=16))
    assert len(np.unique(found)) == len(np.unique(depth.disparity()))


def test_base64_with_line_ends_and_without_padding_is_read(tmp_path):
    text = base64.b64encode(depth.picture(depth.stored("RangeInverse"))).decode()
    lines = "&#xA;".join(text[at : at + 76] for at in range(0, len(text), 76)).rstrip("=")
    check(read(tmp_path, depth.gdepth(text=lines)))


def turned(values, orientation):
    """Values turned by Pillow as a photo with this orientation is shown."""
    image = Image.fromarray(values.astype(np.float32))
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("form", [depth.gdepth, depth.dynamic_depth, depth.container, depth.apple])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_map_is_turned_with_the_photo(tmp_path, form, orientation):
    check(read(tmp_path, form(orientation=orientation)), turned(depth.disparity(), orientation))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_map_that_is_upright_already_is_not_turned(tmp_path, orientation):
    upright = turned(depth.disparity(), orientation)
    data = depth.dynamic_depth(coded=depth.picture(1 - upright), orientation=orientation)
    check(read(tmp_path, data), upright)


@pytest.mark.parametrize(
    "data",
    [depth.photo(), hdr.ultra_hdr(), hdr.apple(), cases.picture("png"), cases.picture("webp"),
     hdr.with_index(depth.photo(), cases.picture("jpg")), cases.jpeg((cases.APP1, b"Exif\0\0"))],
)  # fmt: skip
def test_other_photos_have_no_map(tmp_path, data):
    assert read(tmp_path, data) is None
    assert not has_depth_map(tmp_path / "a.jpg")


def huge_png(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width * height // 1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        cases.chunk(*part) for part in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    )


def base64_of(data):
    return base64.b64encode(data).decode()


WRONG = {
    "base64": (depth.gdepth(text="@@@@"), "base64 text is damaged"),
    "no image": (depth.gdepth(text=base64_of(b"GIF89a")), "neither a JPEG nor a PNG"),
    "cut off": (
        depth.gdepth(text=base64_of(depth.picture(depth.disparity(), "JPEG")[:-300])),
        "image file is truncated",
    ),
    "cut off before its end": (
        depth.gdepth(text=base64_of(depth.picture(depth.disparity(), "JPEG")[:-300] + b"\xff\xd9")),
        "truncated, its pixels are not complete",
    ),
    "too large": (depth.gdepth(text=base64_of(huge_png(9000, 9000))), "megapixels"),
    "near and far": (
        depth.gdepth("RangeLinear").replace(b'Near="0.5"', b'Near="9.5"'),
        "it states depths from 9.5 to 8, expected 0 < near < far",
    ),
    "near and far are equal in float32": (
        depth.gdepth("RangeLinear", near="7.999999999"),
        "it states depths from 7.999999999 to 8, expected 0 < near < far",
    ),
    "near is 0 in float32": (
        depth.gdepth("RangeLinear", near="1e-50"),
        "it states depths from 1e-50 to 8, expected 0 < near < far",
    ),
    "near is missing": (
        depth.gdepth("RangeLinear").replace(b"GDepth:Near", b"GDepth:Nigh"),
        "it states depths from nan to 8",
    ),
    "format": (
        depth.gdepth().replace(b'"RangeInverse"', b'"RangeUnknown"'),
        "its format is 'RangeUnknown', expected RangeInverse or RangeLinear",
    ),
    "lost": (depth.dynamic_depth(coded=b"", length=5000), "lists it, but ends before it"),
    "a length that is text": (
        re.sub(rb'(Item:Semantic="Depth"[^>]*Length=")..', rb"\1xx", depth.container()),
        "lists it, but ends before it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_map_is_one_line(tmp_path, name):
    data, cause = WRONG[name]
    with pytest.raises(ImageError) as caught:
        read(tmp_path, data)
    line = str(caught.value)
    assert cause in line and line.startswith(str(tmp_path / "a.jpg")) and "\n" not in line
    read_image(tmp_path / "a.jpg")  # the photo itself is sound


def test_the_result_states_no_map_that_it_does_not_have(tmp_path, caplog):
    for data in (depth.dynamic_depth(), depth.container(), depth.apple()):
        caplog.clear()
        (tmp_path / "a.jpg").write_bytes(data)
        photo = read_image(tmp_path / "a.jpg")
        write_image(tmp_path / "b.jpg", photo.samples, photo)
        result = (tmp_path / "b.jpg").read_bytes()
        assert "dropped: " in caplog.text
        assert b"android/depthmap" not in result and b'Semantic="Depth"' not in result
        assert read_depth_map(tmp_path / "b.jpg") is None


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_gdepth_stays_in_a_photo_that_is_not_turned(tmp_path, caplog, extended, orientation):
    """The map in the packet has the orientation of the photo's file."""
    (tmp_path / "a.jpg").write_bytes(depth.gdepth(extended=extended, orientation=orientation))
    photo = read_image(tmp_path / "a.jpg")
    write_image(tmp_path / "b.jpg", photo.samples, photo)
    found = read_depth_map(tmp_path / "b.jpg")
    if orientation == 1:
        check(found)
        assert not caplog.text
    else:
        assert found is None
        assert caplog.text.endswith("dropped: depth map\n")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ImageError, match=r"none\.jpg: its depth map cannot be read \(No such file"):
        read_depth_map(tmp_path / "none.jpg")


@pytest.fixture
def heif():
    return pytest.importorskip("pillow_heif")


def test_the_auxiliary_image_of_a_heic_photo_is_read(tmp_path, heif):
    check(read(tmp_path, depth.heic(), "a.heic"), depth.large(depth.disparity()))
    assert has_depth_map(tmp_path / "a.heic")
    found = read(tmp_path, depth.heic(packet=depth.apple_packet()), "a.heic")
    check(found, depth.large(depth.disparity()))


def test_a_heic_map_in_metres(tmp_path, heif):
    values = (1 / (depth.disparity() * 7.5 + 0.5) - 0.125) / 1.875
    data = depth.heic(packet=depth.apple_packet("depth", b"fdep"), values=values)
    check(read(tmp_path, data, "a.heic"), depth.large(depth.disparity()))


@pytest.mark.parametrize("angle", [1, 2, 3])
@pytest.mark.parametrize("is_stated", [True, False])
def test_a_heic_map_is_turned_with_the_photo(tmp_path, heif, angle, is_stated):
    data = depth.heic(angle=angle, map_angle=angle if is_stated else None)
    found = read(tmp_path, data, "a.heic")
    check(found, np.rot90(depth.large(depth.disparity()), angle))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (b"urn:com:apple:photo:2020:aux:hdrgainmap", "gain map (HDR)"),
        (b"urn:iso:std:iso:ts:21496:-1", "gain map (HDR)"),
        (b"urn:mpeg:hevc:2015:auxid:2", "depth map"),
        (b"urn:com:apple:photo:2023:aux:x", "auxiliary image"),
    ],
)
def test_an_auxiliary_image_of_heic_is_named_when_it_is_dropped(tmp_path, heif, caplog, kind, name):
    (tmp_path / "a.heic").write_bytes(depth.heic(kind=kind))
    read_image(tmp_path / "a.heic")
    assert [record.message for record in caplog.records] == [f"{tmp_path}/a.heic: dropped: {name}"]


def test_a_heic_photo_without_a_map(tmp_path, heif):
    data = depth.heic(kind=b"urn:com:apple:photo:2020:aux:hdrgainmap")
    assert read(tmp_path, data, "a.heic") is None


def test_a_missing_package_is_named(tmp_path, heif, monkeypatch):
    (tmp_path / "a.heic").write_bytes(depth.heic())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("refusion.images.packages._is_there", lambda module: False)
    assert has_depth_map(tmp_path / "a.heic")  # needs no decoder
    with pytest.raises(ImageError, match=r"pip install 'refusion\[photo\]'"):
        read_depth_map(tmp_path / "a.heic")


def test_hostile_pictures_behind_the_photo(tmp_path):
    rng = np.random.default_rng(0)
    data = bytearray(depth.apple())
    for _ in range(60):
        broken = data.copy()
        for place in rng.integers(2, len(data), 40):
            broken[place] = rng.integers(256)
        try:
            read(tmp_path, bytes(broken))
        except ImageError as error:
            assert "\n" not in str(error)
    assert io.BytesIO(data).read(2) == b"\xff\xd8"
