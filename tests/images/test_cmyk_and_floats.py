"""CMYK goes through its colour profile; floats beyond black and white are clipped."""

from __future__ import annotations

import io

import format_files as files
import numpy as np
import pytest
import tifffile
from image_cases import ICC, levels, noise
from PIL import Image

from refusion.errors import ImageError
from refusion.images.io import read_image, write_image

PRESS = files.cmyk_profile()


def inks():
    return noise(12, 14, 4)


def saved(path, pixels, icc, **options):
    Image.fromarray(pixels, "CMYK").save(path, icc_profile=icc, **options)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "lzw.tif"])
def test_8_bit_cmyk_goes_through_its_profile(tmp_path, caplog, name):
    options = {"quality": 95} if name == "a.jpg" else {}
    options |= {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    saved(tmp_path / name, inks(), PRESS, **options)
    photo = read_image(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = files.srgb_by_littlecms(np.asarray(image), PRESS)
    assert np.array_equal(levels(photo.image), expected)
    assert photo.icc is None and photo.mode == "rgb"
    assert "CMYK is converted to sRGB through its colour profile" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_cmyk_goes_through_its_profile(tmp_path, dtype):
    pixels = inks()
    full = 65535 if dtype == np.uint16 else 1
    scaled = (pixels / 255 * full).astype(dtype)
    options = {"photometric": "separated", "iccprofile": PRESS}
    tifffile.imwrite(tmp_path / "a.tif", scaled, **options)
    photo = read_image(tmp_path / "a.tif")
    expected = files.srgb_by_littlecms(pixels, PRESS) / 255
    assert np.abs(photo.image.permute(1, 2, 0).numpy() - expected).max() < 0.006
    assert photo.bit_depth == (16 if dtype == np.uint16 else 32) and photo.icc is None


def test_the_profile_makes_a_difference(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0] = 255  # cyan, which this press prints as a light blue
    for name, icc in (("press.tif", PRESS), ("none.tif", None)):
        saved(tmp_path / name, pixels, icc)
    press, none = (read_image(tmp_path / name).image[:, 4, 4] for name in ("press.tif", "none.tif"))
    assert none.tolist() == [0, 1, 1] and (press - none).abs().max() > 0.15


@pytest.mark.parametrize(
    ("icc", "reason"),
    [
        (None, "it has no colour profile"),
        (b"x" * 300, "its colour profile is damaged"),
        (PRESS[:400], "its colour profile is damaged"),
        (ICC, "its colour profile is for RGB"),
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_without_a_profile_the_formula_is_used_and_said(tmp_path, caplog, name, icc, reason):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 1:3] = 255
    saved(tmp_path / name, pixels, icc)
    photo = read_image(tmp_path / name)
    red, green, blue = photo.image[:, 8, 8]
    assert red > 0.95 and green < 0.05 and blue < 0.05 and photo.icc is None
    assert f"by a simple formula, colours may differ: {reason}" in caplog.text


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_floats_beyond_white_are_clipped_with_a_warning(tmp_path, caplog, dtype, compression):
    pixels = np.linspace(-0.5, 4, 20 * 30 * 3).reshape(20, 30, 3).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression=compression)
    photo = read_image(tmp_path / "a.tif")
    expected = pixels.clip(0, 1)
    assert np.allclose(photo.image.permute(1, 2, 0), expected, atol=1e-3) and photo.bit_depth == 32
    assert "float samples from -0.5 to 4 are clipped to [0, 1] (78 % of them)" in caplog.text
    write_image(tmp_path / "b.tif", photo.samples, photo)
    assert np.array_equal(read_image(tmp_path / "b.tif").samples, photo.samples)


def test_floats_from_black_to_white_need_no_warning(tmp_path, caplog):
    pixels = np.linspace(0, 1, 20 * 30 * 3, dtype=np.float32).reshape(20, 30, 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "a.tif").image.permute(1, 2, 0), pixels)
    assert caplog.text == ""


def test_a_float_that_is_not_a_number_is_refused(tmp_path):
    pixels = np.full((4, 4, 3), 0.5, np.float32)
    for value in (np.nan, np.inf):
        pixels[2, 2, 1] = value
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, photometric="rgb")
        (tmp_path / "a.tif").write_bytes(file.getvalue())
        with pytest.raises(ImageError, match="float samples that are infinite or not a number"):
            read_image(tmp_path / "a.tif")
