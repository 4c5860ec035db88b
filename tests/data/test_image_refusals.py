"""What cannot be read is one clear error; folders are listed."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from image_cases import (
    exif_block,
    levels,
    noise,
    png_16,
)
from PIL import Image

from refusion.data.image_io import IMAGE_SUFFIXES, list_images, read_image, write_image
from refusion.errors import ImageError


def refuse(path, reason, **options):
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path, **options)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_missing_empty_folder_text(tmp_path):
    refuse(tmp_path / "none.png", "no such file")
    refuse(tmp_path, "a folder")
    (tmp_path / "empty.png").touch()
    refuse(tmp_path / "empty.png", "empty file")
    (tmp_path / "text.jpg").write_text("no image\n")
    refuse(tmp_path / "text.jpg", "not an image")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.bmp")
    refuse(tmp_path / "a.bmp", "expected JPEG, PNG, TIFF or WebP")


def test_no_permission(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", denied)  # root may read whatever the mode says
    refuse(tmp_path / "a.png", "no permission")
    with pytest.raises(ImageError, match=r"cannot be written \(Permission denied\)"):
        write_image(tmp_path / "a.png", torch.rand(3, 2, 2))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif", "deep.png"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated(tmp_path, name, part):
    source = tmp_path / name
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    if name == "deep.png":
        source.write_bytes(png_16(noise(64, 64, 3, np.uint16)))
    else:
        Image.fromarray(noise(64, 64, 3)).save(source, **options)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * part)])
    refuse(source, "damaged|truncated|not supported")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.tif"])
def test_random_damage_is_an_image_or_an_image_error(tmp_path, name):
    source = tmp_path / name
    if name == "deep.tif":
        tifffile.imwrite(source, noise(16, 16, 3, np.uint16), photometric="rgb")
    else:
        Image.fromarray(noise(16, 16, 3)).save(source, exif=exif_block(6))
    data = np.frombuffer(source.read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = data.copy()
        places = rng.integers(0, min(len(data), 400), 4)
        damaged[places] = rng.integers(0, 256, 4)
        source.write_bytes(damaged.tobytes())
        try:
            image = read_image(source, max_pixels=10**6).image
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert image.min() >= 0 and image.max() <= 1


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    head = struct.pack(">IIBBBBB", 100000, 90000, 8, 2, 0, 0, 0)
    data = png_16(noise(2, 2, 3, np.uint16))
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "a.png").write_bytes(data[:16] + head + crc + data[33:])
    limit = Image.MAX_IMAGE_PIXELS
    refuse(tmp_path / "a.png", r"100000x90000 is 9000 megapixels.*limit of 400 \(max_pixels\)")
    assert limit == Image.MAX_IMAGE_PIXELS
    for name in ("b.jpg", "b.tif", "b.webp"):
        Image.fromarray(noise(8, 8, 3)).save(tmp_path / name)
        refuse(tmp_path / name, "max_pixels", max_pixels=63)
        assert read_image(tmp_path / name, max_pixels=64).image.shape == (3, 8, 8)


def test_pillow_limit_does_not_matter(tmp_path, monkeypatch):
    for name in ("a.jpg", "a.png", "a.tif"):
        Image.fromarray(noise(8, 8, 3)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    for name in ("a.jpg", "a.png", "a.tif"):
        assert read_image(tmp_path / name).image.shape == (3, 8, 8)


def test_first_frame_of_several(tmp_path, caplog):
    frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    for name in ("a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        caplog.clear()
        photo = read_image(tmp_path / name)
        assert np.array_equal(levels(photo.image), np.asarray(frames[0]))
        assert "first" in caplog.text


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.full((2, 2, 3), 1.5, np.float32), {"photometric": "rgb"}, "from 1.5 to 1.5"),
        (np.full((2, 2), np.nan, np.float32), {}, "nan"),
        (np.ones((2, 2), np.int16), {}, "int16"),
        (np.ones((2, 2), np.uint32), {}, "uint32"),
        (np.ones((2, 2, 3), np.uint8), {"photometric": "cielab"}, "LAB"),
        (np.ones((2, 2), np.complex64), {}, "complex64"),
        (np.ones((2, 2, 3), np.uint8), {"photometric": "rgb", "subfiletype": 1}, "camera raw"),
    ],
)
def test_unusual_tiffs_are_refused(tmp_path, pixels, options, reason):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    refuse(tmp_path / "a.tif", reason)


def test_list_images(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".trash").mkdir()
    names = ["b.JPG", "a.png", "notes.txt", "._a.png", "sub/c.webp", ".trash/d.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == [
        "a.png",
        "b.JPG",
        "c.webp",
    ]
    assert list_images(str(tmp_path / "a.png")) == [tmp_path / "a.png"]
    assert set(IMAGE_SUFFIXES) >= {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}


def test_list_images_refusals(tmp_path):
    with pytest.raises(ImageError, match="no such file or folder"):
        list_images(tmp_path / "none")
    with pytest.raises(ImageError, match="no images in it"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="cannot be listed"):
        list_images(tmp_path / ("n" * 300))
