"""Samples come back as they were, at every depth and in every layout."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from image_cases import (
    ICC,
    LOSSLESS,
    MODES,
    SIZES,
    exif_block,
    levels,
    noise,
    png_16,
    squeezed,
)
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from refusion.images import tiff_encode
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_8_bit_round_trip_is_exact(tmp_path, suffix, mode, size):
    pixels = noise(*size, MODES[mode])
    source, target = tmp_path / "a.png", tmp_path / f"b.{suffix}"
    Image.fromarray(squeezed(pixels)).save(source)
    photo = read_image(source)
    assert photo.image.shape == (3, *size) and photo.image.dtype == torch.float32
    assert photo.image.is_contiguous()
    write_image(target, photo.image, photo)
    with Image.open(target) as written:
        if suffix != "webp":
            assert written.mode == mode
        assert np.array_equal(np.asarray(written.convert(mode)), squeezed(pixels))
    again = read_image(target)
    assert torch.equal(again.image, photo.image)
    assert (again.alpha is None) == (photo.alpha is None) == (mode in ("L", "RGB"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_16_bit_round_trip_is_exact(tmp_path, suffix, channels, size):
    pixels = noise(*size, channels, np.uint16)
    source, target = tmp_path / "a.png", tmp_path / f"b.{suffix}"
    source.write_bytes(png_16(pixels))
    photo = read_image(source)
    assert (photo.bit_depth, photo.mode) == (16, "gray" if channels < 3 else "rgb")
    write_image(target, photo.image, photo)
    again = read_image(target)
    assert torch.equal(again.image, photo.image)
    planes = again.image[:1] if channels < 3 else again.image
    planes = planes if again.alpha is None else torch.cat([planes, again.alpha])
    assert np.array_equal(levels(planes, 16), pixels)
    if suffix == "tif":  # an independent reader
        assert np.array_equal(tifffile.imread(target), squeezed(pixels))


def test_all_65536_levels_survive_png_and_tiff(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.stack([ramp, ramp[::-1], ramp.T], axis=2)
    (tmp_path / "a.png").write_bytes(png_16(pixels))
    photo = read_image(tmp_path / "a.png")
    for name in ("b.tif", "c.png"):
        write_image(tmp_path / name, photo.image, photo)
        photo = read_image(tmp_path / name)
    assert np.array_equal(levels(photo.image, 16), pixels)


def test_16_bit_png_is_decoded_alike_by_another_library(tmp_path):
    png = pytest.importorskip("kornia_rs.io")
    pixels = noise(300, 41, 3, np.uint16)
    image = torch.from_numpy(pixels.astype(np.float32) / 65535).permute(2, 0, 1)
    write_image(tmp_path / "a.png", image, Photo(image, bit_depth=16))
    read = np.asarray(png.read_image_png_u16(str(tmp_path / "a.png"), "rgb"))
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_16_bit_png(tmp_path, channels):
    pixels = noise(13, 11, channels, np.uint16)
    (tmp_path / "a.png").write_bytes(png_16(pixels, interlaced=True))
    photo = read_image(tmp_path / "a.png")
    assert np.array_equal(levels(photo.image, 16)[..., :1], pixels[..., :1])
    if channels % 2 == 0:
        assert np.array_equal(levels(photo.alpha, 16), pixels[..., -1:])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_16_bit_tiff_layouts(tmp_path, order, planar, compression, bigtiff):
    pixels = noise(37, 41, 3, np.uint16)
    data = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        data,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        byteorder=order,
        bigtiff=bigtiff,
    )
    assert np.array_equal(levels(read_image(tmp_path / "a.tif").image, 16), pixels)


def lzw(data):
    """TIFF's LZW without a single compression: a clear code before the table grows to 10 bits."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_lzw_tiff_keeps_both_bytes(tmp_path, channels):
    pixels = noise(9, 5, channels, np.uint16)
    strip = lzw(pixels.tobytes())
    tags = ImageFileDirectory_v2()
    tags[256], tags[257], tags[258], tags[259] = 5, 9, (16,) * channels, 5
    tags[262], tags[277], tags[278], tags[273], tags[279] = 2, channels, 9, 0, len(strip)
    if channels == 4:
        tags[338] = 2
    with (tmp_path / "a.tif").open("wb") as file:
        tags.save(file)
        file.write(strip)
    photo = read_image(tmp_path / "a.tif")
    assert (photo.bit_depth, photo.tiff_compression) == (16, "deflate")
    assert np.array_equal(levels(photo.image, 16), pixels[..., :3])
    write_image(tmp_path / "b.tif", photo.image, photo)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_tiff_is_written_as_float32(tmp_path, dtype, channels):
    pixels = np.random.default_rng(0).random((6, 5, channels)).astype(dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", squeezed(pixels), photometric=photometric)
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", photo.image, photo)
    written = tifffile.imread(tmp_path / "b.tif")
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, squeezed(pixels).astype(np.float32), atol=1.2e-7)
    write_image(tmp_path / "c.png", photo.image, photo)
    assert read_image(tmp_path / "c.png").bit_depth == 16


@pytest.mark.parametrize("codec", ["raw", "tiff_adobe_deflate", "tiff_lzw", "packbits"])
def test_tiff_stays_compressed_or_not(tmp_path, codec):
    pixels = noise(70, 40, 3)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=codec, dpi=(240, 120))
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", photo.image, photo)
    with Image.open(tmp_path / "b.tif") as written:
        assert written.info["compression"] == ("raw" if codec == "raw" else "tiff_adobe_deflate")
        assert written.info["dpi"] == (240, 120)
        assert np.array_equal(np.asarray(written), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_large_tiff_becomes_big_tiff(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(tiff_encode, "_BIG_TIFF_BYTES", 1000)
    pixels = noise(600, 500, 3, dtype)
    depth = dtype().itemsize * 8
    image = torch.from_numpy(pixels.astype(np.float32) / (2**depth - 1)).permute(2, 0, 1)
    like = Photo(image, bit_depth=depth, exif=exif_block()[6:], icc=ICC)
    write_image(tmp_path / "a.tif", image, like)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff and np.array_equal(tiff.asarray(), pixels)
        assert tiff.pages[0].tags.valueof(271) == "Maker"


def test_associated_alpha_is_taken_out_of_the_colour(tmp_path):
    colour, alpha = np.full((2, 2, 3), 40000, np.uint16), np.full((2, 2, 1), 32768, np.uint16)
    stored = np.concatenate([(colour * (alpha / 65535)).round().astype(np.uint16), alpha], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(levels(read_image(tmp_path / "a.tif").image, 16) - 40000).max() <= 1


def test_white_is_zero_and_unspecified_extra_channel(tmp_path, caplog):
    gray = noise(4, 5, 1)
    tifffile.imwrite(tmp_path / "a.tif", gray[..., 0], photometric="miniswhite")
    photo = read_image(tmp_path / "a.tif")
    assert photo.mode == "gray" and np.array_equal(levels(photo.image)[..., :1], 255 - gray)
    rgbx = noise(4, 5, 4)
    tifffile.imwrite(tmp_path / "b.tif", rgbx, photometric="rgb", extrasamples=["unspecified"])
    photo = read_image(tmp_path / "b.tif")
    assert photo.alpha is None and np.array_equal(levels(photo.image), rgbx[..., :3])
    assert "dropped" in caplog.text
