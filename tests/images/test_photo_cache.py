"""The cache of decoded photos."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiff_files
import tifffile
import torch
from PIL import Image

from refusion.errors import ConfigError, ImageError
from refusion.images.cache import PhotoCache, list_photos, to_tensor, upright_size
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo


def save_photo(path: Path, width: int = 40, height: int = 24, **options: object) -> np.ndarray:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def test_load_is_the_photo_and_decodes_once(tmp_path: Path, monkeypatch) -> None:
    pixels = save_photo(tmp_path / "a.png")
    cache = PhotoCache(tmp_path / "cache")
    assert np.array_equal(cache.load(tmp_path / "a.png", 100), pixels)
    monkeypatch.setattr("refusion.images.cache.read_image", lambda *_: pytest.fail("decoded again"))
    mapped = cache.load(tmp_path / "a.png", 100)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert np.array_equal(mapped, pixels)


@pytest.mark.parametrize(
    "entry", [b"", b"PK", np.zeros((4, 4, 3), "f4"), np.zeros((4, 4), "u1"), np.array([{}])]
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, entry: bytes | np.ndarray) -> None:
    """Also one of another type or shape, one with objects, and one that is too short."""
    pixels, cache = save_photo(tmp_path / "a.png"), PhotoCache(tmp_path / "cache")
    cache.load(tmp_path / "a.png", 100)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    if isinstance(entry, bytes):
        file.write_bytes(entry)
    else:
        np.save(file, entry)
    assert np.array_equal(cache.load(tmp_path / "a.png", 100), pixels)
    file.write_bytes(whole[:-1])
    assert np.array_equal(cache.load(tmp_path / "a.png", 100), pixels)


def test_a_changed_photo_gets_a_new_entry(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.png", PhotoCache(tmp_path / "cache")
    save_photo(path)
    cache.load(path, 100)
    Image.new("RGB", (40, 24), "red").save(path)
    os.utime(path, ns=(1, 1))
    assert cache.load(path, 100)[0, 0].tolist() == [255, 0, 0]


def test_large_photos_shrink_and_small_ones_stay(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.png", 200, 100)
    cache = PhotoCache(tmp_path / "cache")
    assert cache.load(tmp_path / "a.png", 50).shape == (25, 50, 3)
    assert cache.load(tmp_path / "a.png", 500).shape == (100, 200, 3)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = save_photo(tmp_path / "a.png", 40, 24, exif=exif)
    loaded = PhotoCache(tmp_path / "cache").load(tmp_path / "a.png", 100)
    assert np.array_equal(loaded, np.rot90(pixels, -1))
    assert upright_size(tmp_path / "a.png") == (24, 40)


def save_deep(path: Path, width: int = 40, height: int = 24) -> np.ndarray:
    """A 16-bit RGB file; returns its samples."""
    pixels = np.random.default_rng(3).integers(0, 65536, (height, width, 3)).astype(np.uint16)
    image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 65535
    write_image(path, image, Photo(image, bit_depth=16))
    return pixels


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_photos_keep_every_sample(tmp_path: Path, name: str) -> None:
    pixels = save_deep(tmp_path / name)
    loaded = PhotoCache(tmp_path / "cache").load(tmp_path / name, 100)
    assert loaded.dtype == np.uint16
    assert np.array_equal(loaded, pixels)
    expected = read_image(tmp_path / name).image
    torch.testing.assert_close(to_tensor(loaded), expected, atol=1e-7, rtol=0)
    assert upright_size(tmp_path / name) == (40, 24)


def test_float_tiff_is_kept_with_16_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 24 * 40 * 3, dtype=np.float32).reshape(24, 40, 3)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    loaded = PhotoCache(tmp_path / "cache").load(tmp_path / "a.tif", 100)
    assert loaded.dtype == np.uint16
    assert np.abs(loaded / 65535 - values).max() <= 0.51 / 65535
    assert upright_size(tmp_path / "a.tif") == (40, 24)


def test_shrinking_keeps_16_bits(tmp_path: Path) -> None:
    """A slow ramp over 600 of 65536 levels has three levels at 8 bits; shrunk, it still rises."""
    ramp = np.linspace(30000, 30600, 400).round().astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", np.broadcast_to(ramp[None, :, None], (200, 400, 3)))
    loaded = PhotoCache(tmp_path / "cache").load(tmp_path / "a.tif", 100)
    assert loaded.shape == (50, 100, 3)
    assert len(np.unique(loaded[10, :, 0])) == 100
    assert np.abs(loaded[10, 3:-3, 0] - np.linspace(30002, 30598, 100)[3:-3]).max() < 3


def test_both_depths_shrink_alike(tmp_path: Path) -> None:
    pixels = save_photo(tmp_path / "a.png", 200, 100)
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.uint16) * 257)
    cache = PhotoCache(tmp_path / "cache")
    low, deep = (to_tensor(cache.load(tmp_path / name, 64)) for name in ("a.png", "a.tif"))
    assert low.shape == deep.shape == (3, 32, 64)
    torch.testing.assert_close(deep, low, atol=2 / 255, rtol=0)


def test_gray_palette_and_alpha_are_rgb(tmp_path: Path) -> None:
    pixels = save_photo(tmp_path / "a.png")
    gray = pixels[..., :1].repeat(3, 2)
    cases = {
        "gray.png": (Image.fromarray(pixels[..., 0]), gray),
        "alpha.png": (Image.fromarray(np.concatenate([pixels, pixels[..., :1]], 2)), pixels),
        "deep.png": (
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257),
            gray * np.uint16(257),
        ),
    }
    palette = Image.fromarray(pixels).quantize(16)
    cases["palette.png"] = (palette, np.asarray(palette.convert("RGB")))
    cache = PhotoCache(tmp_path / "cache")
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name)
        loaded = cache.load(tmp_path / name, 100)
        assert loaded.dtype == expected.dtype, name
        assert np.array_equal(loaded, expected), name


def test_many_readers_at_once_and_nothing_left_over(tmp_path: Path) -> None:
    pixels = save_photo(tmp_path / "a.png", 300, 200)
    cache = PhotoCache(tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: cache.load(tmp_path / "a.png", 500), range(16)))
    assert all(np.array_equal(one, pixels) for one in loaded)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


def test_broken_and_missing_photos_are_named(tmp_path: Path) -> None:
    cache = PhotoCache(tmp_path / "cache")
    save_photo(tmp_path / "whole.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    for name in ("torn.png", "none.png"):
        with pytest.raises(ImageError, match=name):
            cache.load(tmp_path / name, 100)


def test_default_folder_is_in_the_user_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert PhotoCache().folder == tmp_path / "refusion" / "photos"


def test_list_photos_recurses_sorts_and_skips(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "deep/c.png", ".hidden.png"):
        save_photo(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("none")
    names = [str(path.relative_to(tmp_path)) for path in list_photos([tmp_path])]
    assert names == ["a.JPG", "b.png", "deep/c.png"]


def test_list_photos_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        list_photos([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="no photos"):
        list_photos([tmp_path])
    (tmp_path / "a.png").touch()
    with pytest.raises(ConfigError, match=r"expected a folder, got the file '.*a\.png'"):
        list_photos([tmp_path / "a.png"])
    (tmp_path / "a.png").unlink()
    for wrong in ([], str(tmp_path)):
        with pytest.raises(ConfigError, match="list of folders"):
            list_photos(wrong)


def test_to_tensor_scales_to_one() -> None:
    tensor = to_tensor(np.array([[[0, 51, 255]]], np.uint8))
    assert tensor.shape == (3, 1, 1)
    assert tensor.flatten().tolist() == pytest.approx([0, 0.2, 1])
    deep = to_tensor(np.array([[[0, 13107, 65535]]], np.uint16))
    assert deep.flatten().tolist() == pytest.approx([0, 0.2, 1])


def exif_with(kind: int, count: int, value: bytes) -> bytes:
    """EXIF block whose orientation has any type and value."""
    entry = struct.pack("<HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize(
    ("entry", "turned"),
    [
        ((3, 1, b"\x06\0"), True),
        ((4, 1, b"\x06\0"), True),
        ((2, 2, b"6\0"), False),  # a text
        ((3, 1, b"\x09\0"), False),
        ((9, 1, b"\xff\xff\xff\xff"), False),
        ((11, 1, b"\0\0\xc0\x7f"), False),  # NaN
        ((3, 0, b""), False),
        ((2, 2**31, b"\x08\0\0\0"), False),
    ],
)
def test_the_size_follows_the_orientation_that_is_applied(tmp_path, name, entry, turned) -> None:
    path = tmp_path / name
    kind, count, value = entry
    if name == "a.tif":
        samples = np.zeros((24, 40, 3), np.uint8)
        tag = (kind, count, value.ljust(4, b"\0"))
        path.write_bytes(tiff_files.tiff(samples, tiff_files.Layout(8, 2), t274=tag))
    else:
        save_photo(path, 40, 24, exif=b"Exif\0\0" + exif_with(kind, count, value))
    expected = (24, 40) if turned else (40, 24)
    assert upright_size(path) == expected
    assert read_image(path).samples.shape[:0:-1] == expected
