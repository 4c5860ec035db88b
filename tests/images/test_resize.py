"""Sizes and places that resizing keeps."""

import pytest
import torch

from refusion.config.sections import UpscaleConfig
from refusion.images.resize import enlarge, resize_like, shrink


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
