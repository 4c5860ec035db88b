"""Camera raw: a DNG with a Bayer mosaic comes out with the colours of its scene."""

from __future__ import annotations

import struct

import format_files as files
import numpy as np
import pytest
from PIL import Image

from refusion.errors import ImageError
from refusion.images import packages
from refusion.images.cache import upright_size
from refusion.images.colour import rec2020_profile
from refusion.images.io import read_image, write_image

# From linear sRGB to linear Rec. 2020 (ITU-R BT.2087).
_REC2020 = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
PATCHES = {(20, 20): (0.18, 0.18, 0.18), (20, 60): (0.5, 0.1, 0.1), (60, 20): (0.02, 0.05, 0.6)}


@pytest.fixture(autouse=True)
def _rawpy():
    files.package("rawpy")


def scene(height=80, width=96):
    light = np.full((height, width, 3), 0.3)
    for (y, x), colour in PATCHES.items():
        light[y - 16 : y + 16, x - 16 : x + 16] = colour
    return light


def curve(light):
    """The curve of sRGB (IEC 61966-2-1)."""
    light = np.asarray(light)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("tint", [(1, 1, 1), (0.8, 1, 0.5)])
@pytest.mark.parametrize("neutral", [(1.0, 1.0, 1.0), (0.5, 1.0, 0.7)])
def test_colours_are_those_of_the_scene_in_rec_2020(tmp_path, neutral, tint):
    (tmp_path / "a.dng").write_bytes(files.dng(scene(), neutral=neutral, tint=tint))
    photo = read_image(tmp_path / "a.dng")
    assert photo.icc == rec2020_profile() and photo.bit_depth == 16 and photo.format == "TIFF"
    for (y, x), colour in PATCHES.items():
        expected = curve(np.array(_REC2020) @ colour)
        assert np.abs(photo.image[:, y, x].numpy() - expected).max() < 0.004


def test_the_exposure_does_not_depend_on_the_brightest_pixel(tmp_path):
    for name, highlight in (("a.dng", 0.3), ("b.dng", 0.9)):
        light = scene()
        light[70:, 80:] = highlight
        (tmp_path / name).write_bytes(files.dng(light))
    first, second = (read_image(tmp_path / name).image[:, 20, 20] for name in ("a.dng", "b.dng"))
    assert (first - second).abs().max() < 1e-4


@pytest.mark.parametrize(("orientation", "place"), [(1, (20, 60)), (6, (60, 59)), (8, (35, 20))])
def test_the_orientation_is_applied_once(tmp_path, orientation, place):
    (tmp_path / "a.dng").write_bytes(files.dng(scene(), orientation=orientation))
    photo = read_image(tmp_path / "a.dng")
    assert photo.samples.shape[1:] == ((80, 96) if orientation == 1 else (96, 80))
    assert upright_size(tmp_path / "a.dng") == photo.samples.shape[:0:-1]
    red, green, _ = photo.image[:, place[0], place[1]]
    assert red - green > 0.2
    block = Image.Exif()
    block.load(photo.exif)
    assert block[files.ORIENTATION] == 1 and block[files.COPYRIGHT] == "(c) Io"


def test_the_result_is_a_tiff_with_profile_and_metadata(tmp_path):
    more = [(700, 1, len(files.XMP), files.XMP, True), (33723, 7, 10, files.IPTC, True)]
    (tmp_path / "a.dng").write_bytes(files.dng(scene(), more=more))
    photo = read_image(tmp_path / "a.dng")
    write_image(tmp_path / "result", photo.samples, photo)
    assert (tmp_path / "result").read_bytes()[:4] == b"II*\0"
    (tmp_path / "result").rename(tmp_path / "b.tif")
    again = read_image(tmp_path / "b.tif")
    assert np.array_equal(again.samples, photo.samples) and again.icc == photo.icc
    assert (again.xmp, again.iptc) == (files.XMP, files.IPTC)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif()[files.MAKER] == "Maker"


def test_a_raw_file_is_known_by_its_content(tmp_path):
    (tmp_path / "a.tif").write_bytes(files.dng(scene()))
    assert read_image(tmp_path / "a.tif").bit_depth == 16
    Image.fromarray(files.ramp()).save(tmp_path / "b.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.nef")  # its content says TIFF, its name raw
    with pytest.raises(ImageError, match=r"b.nef: damaged or not supported \(camera raw: "):
        read_image(tmp_path / "b.nef")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.999])
def test_truncated_raw(tmp_path, capfd, part):
    data = files.dng(scene())
    (tmp_path / "a.dng").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageError, match=r"a\.dng: ") as caught:
        read_image(tmp_path / "a.dng")
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""


def test_the_size_is_checked_before_the_pixels_are_decoded(tmp_path):
    data = bytearray(files.dng(np.full((64, 64, 3), 0.2)))
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
        data[at : at + 4] = struct.pack("<I", 25_000)
    (tmp_path / "a.dng").write_bytes(data)
    with pytest.raises(ImageError, match="25000x25000 is 625 megapixels, more than the limit"):
        read_image(tmp_path / "a.dng")
    with pytest.raises(ImageError, match="max memory: decoding 25000x25000 pixels needs about 16"):
        read_image(tmp_path / "a.dng", max_pixels=10**9, max_memory=2**30)


def test_the_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.dng").write_bytes(files.dng(scene()))
    monkeypatch.setattr(packages, "_is_there", lambda module: module != "rawpy")
    with pytest.raises(ImageError, match=r"a.dng: camera raw needs the package rawpy; install it "):
        read_image(tmp_path / "a.dng")
