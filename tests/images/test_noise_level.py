"""The noise level of photos is estimated within 10 %; edge cases stay finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusion.images.io import read_image, write_image
from refusion.images.noise_level import BLOCK, MOST_BLOCKS, _blocks, estimate_noise_std

ROOT = Path(__file__).parents[2]
PHOTOS = sorted([*(ROOT / "examples").glob("*.jpg"), *(ROOT / "tests" / "photos").glob("*.jpg")])


def clean(path):
    return read_image(path).image[None, :, :1024, :1024]


def noisy(image, sigma, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return image + sigma / 255 * torch.randn(image.shape, generator=generator)


def rounded(image):
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_white_noise_is_found_within_ten_percent(path):
    photo = clean(path)
    for sigma in (5, 15, 25, 50):
        found = 255 * estimate_noise_std(noisy(photo, sigma)).item()
        assert found == pytest.approx(sigma, rel=0.1)
        found = 255 * estimate_noise_std(rounded(noisy(photo, sigma))).item()
        assert found == pytest.approx(sigma, rel=0.11)


def test_there_are_photos():
    assert len(PHOTOS) >= 4


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_clean_photos_have_little_noise(path):
    assert 255 * estimate_noise_std(clean(path)).item() < 4


def test_each_photo_of_a_batch_has_its_own_level():
    photo = clean(PHOTOS[0])[..., :256, :256]
    batch = torch.cat([noisy(photo, sigma, sigma) for sigma in (5, 40, 20)])
    found = estimate_noise_std(batch)
    alone = [estimate_noise_std(one[None]) for one in batch]
    assert found.shape == (3,)
    torch.testing.assert_close(found, torch.cat(alone))


def test_noise_of_one_channel_counts_by_its_variance():
    image = torch.full((1, 3, 256, 256), 0.5)
    image[:, :1] = noisy(image[:, :1], 30)
    assert 255 * estimate_noise_std(image).item() == pytest.approx(30 / 3**0.5, rel=0.05)


def test_coarse_grain_is_found_although_the_finest_detail_is_gone():
    small = noisy(torch.full((1, 3, 128, 128), 0.5), 20)
    grain = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic")
    true = 255 * grain.std().item()
    assert 0.5 * true < 255 * estimate_noise_std(grain).item() < 1.1 * true


def test_texture_and_clipped_parts_do_not_count():
    image = torch.full((1, 3, 256, 256), 0.5)
    image[..., :200] = torch.rand(1, 3, 256, 200, generator=torch.Generator().manual_seed(1))
    image = noisy(image, 10)
    image[..., 200:210, :] = 1.0
    image[..., 100:200, 200:] = 0.0
    assert 255 * estimate_noise_std(image).item() == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (4, 4), (7, 9), (16, 16), (33, 50)])
def test_flat_and_tiny_photos_have_no_noise(value, size):
    assert estimate_noise_std(torch.full((2, 3, *size), value)).tolist() == [0, 0]


def test_integers_give_the_level_of_floats():
    photo = rounded(noisy(torch.full((1, 3, 64, 64), 0.5), 10))
    from_float = estimate_noise_std(photo.float() / 255)
    assert torch.equal(estimate_noise_std(photo), from_float)
    deep = (photo.to(torch.int32) * 257).to(torch.uint16)
    torch.testing.assert_close(estimate_noise_std(deep), from_float)


def test_a_large_photo_is_looked_at_in_part():
    photo = noisy(torch.full((1, 3, 2100, 2100), 0.5), 10)
    _, _, count, side, _ = _blocks(photo, BLOCK).shape
    assert MOST_BLOCKS / 5 < count <= MOST_BLOCKS < (2100 // side) ** 2
    assert 255 * estimate_noise_std(photo).item() == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("frame", [128, 16, 250])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_frame_of_one_value_does_not_hide_the_noise(frame, suffix, tmp_path):
    photo = rounded(noisy(clean(PHOTOS[-1]), 25))
    for side in (slice(0, 30), slice(-30, None)):
        photo[..., side, :] = frame
        photo[..., side] = frame
    file = tmp_path / f"a{suffix}"
    write_image(file, photo[0])
    found = 255 * estimate_noise_std(read_image(file).samples[None]).item()
    assert found == pytest.approx(25, rel=0.12 if suffix == ".png" else 0.35)


def test_a_drawing_of_flat_parts_has_no_noise():
    photo = torch.full((1, 3, 200, 300), 0.5)
    photo[..., 50:90, 70:150] = 0.2
    photo[..., 120:125, :] = 0.8
    assert estimate_noise_std(photo).item() == 0
