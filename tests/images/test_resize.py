"""Sizes and places that resizing keeps."""

import numpy as np
import pytest
import torch
from PIL import Image

from refusion.config.sections import UpscaleConfig
from refusion.images.resize import antialiased, enlarge, resize_like, shrink
from refusion.images.samples import to_float
from refusion.runtime import resizing


def photo(*size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((30, 40), 20, (15, 20)), ((40, 30), 20, (20, 15)), ((3, 900), 30, (1, 30))],
)
def test_shrink_keeps_the_shape_of_the_photo(size, side, expected):
    small = shrink(photo(*size), side)
    assert small.shape[-2:] == expected
    assert 0 <= float(small.min()) <= float(small.max()) <= 1


@pytest.mark.parametrize("side", [40, 41])
def test_shrink_leaves_smaller_photos(side):
    image = photo(30, 40)
    assert shrink(image, side) is image


def test_shrink_is_an_average_not_a_choice_of_pixels():
    stripes = torch.zeros(1, 3, 8, 64)
    stripes[..., ::2] = 1
    middle = shrink(stripes, 16)[..., 2:-2]
    torch.testing.assert_close(middle, torch.full_like(middle, 0.5), rtol=0, atol=0.05)


def by_pillow(image, size, mode):
    resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[mode]
    planes = [Image.fromarray(plane).resize(size[::-1], resample) for plane in image[0].numpy()]
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])[None]


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("height", [1, 2, 3, 30, 301])
@pytest.mark.parametrize("width", [1, 2, 3, 30, 301])
def test_every_size_is_filtered_as_by_pillow(height, width, mode):
    """PyTorch alone is wrong by up to 0.9 where the result has one column."""
    image = photo(height, width)
    for rows in {1, 2, max(1, height // 2), height, height + 3}:
        for columns in {1, 2, max(1, width // 2), width, width + 3}:
            found = antialiased(image, (rows, columns), mode)
            expected = by_pillow(image, (rows, columns), mode)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
            assert found.is_contiguous()


@pytest.mark.parametrize("size", [(900, 1), (1, 900), (900, 3), (3, 900), (900, 600), (600, 1)])
@pytest.mark.parametrize("side", [1, 2, 30, 384])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_photos_of_one_column_shrink_as_by_pillow(size, side, dtype):
    image = photo(*size)
    if dtype != torch.float32:
        image = (image * torch.iinfo(dtype).max).to(torch.int32).to(dtype)
    small = shrink(image, side)
    expected = by_pillow(to_float(image), small.shape[-2:], "bicubic").clamp(0, 1)
    torch.testing.assert_close(small, expected, rtol=0, atol=1e-4)
    lite = resizing.shrink(image[0].numpy(), side)
    torch.testing.assert_close(small[0], torch.from_numpy(lite), rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["bicubic", "nearest"])
def test_enlarge_puts_pixels_in_their_place(mode):
    upscale = UpscaleConfig(4, mode)
    # A straight ramp: the centre of output pixel i lies at (i + 0.5) / 4 - 0.5 of the input.
    ramp = (torch.arange(12.0) / 12).expand(1, 3, 6, 12)
    large = enlarge(ramp, upscale)
    assert large.shape == (1, 3, 24, 48)
    place = (torch.arange(48.0) + 0.5) / 4 - 0.5
    expected = (place.round() if mode == "nearest" else place) / 12
    # This cubic bends a ramp a little; a place wrong by one output pixel would be 1/48 off.
    torch.testing.assert_close(large[0, 0, 12, 8:-8], expected[8:-8], rtol=0, atol=0.005)


def test_enlarge_keeps_overshoots_and_without_upscale_the_image():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    assert enlarge(image, None) is image
    assert float(enlarge(image, UpscaleConfig(2)).max()) > 1
    assert float(enlarge(image, UpscaleConfig(2, "nearest")).max()) == 1


def test_beside_has_the_size_of_the_other_and_the_range_of_photos():
    lq = (photo(6, 9) > 0.5).float()
    result = resize_like(lq, photo(24, 36))
    assert result.shape == (1, 3, 24, 36)
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    torch.testing.assert_close(result, enlarge(lq, UpscaleConfig(4)).clamp(0, 1))
    assert torch.equal(resize_like(lq, lq), lq)
    assert torch.equal(resize_like(2 * lq - 0.5, lq), lq)
