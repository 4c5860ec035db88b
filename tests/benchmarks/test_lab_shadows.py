"""The classical baseline of shadow removal: a threshold in Lab."""

import pytest
import torch

from benchmarks.lab_shadows import remove_shadows, shadow_mask


def shaded(level: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A photo of one texture, the same with a rectangle in shadow, and the rectangle."""
    texture = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0)) * 0.02
    clear = texture + torch.tensor([0.6, 0.55, 0.5])[:, None, None]
    mask = torch.zeros(1, 1, 60, 80)
    mask[..., 20:45, 15:50] = 1
    return clear, clear * (1 - mask + mask * level), mask


@pytest.mark.parametrize("level", [0.3, 0.5, 0.7])
def test_one_shadow_on_one_ground_is_found_and_removed(level):
    clear, photo, mask = shaded(level)
    assert torch.equal(shadow_mask(photo), mask)
    result = remove_shadows(photo)
    inner = (..., slice(22, 43), slice(17, 48))
    torch.testing.assert_close(result[inner], clear[inner], rtol=0, atol=0.02)
    outside = torch.nn.functional.max_pool2d(mask, 5, 1, 2) == 0
    assert torch.equal(result * outside, photo * outside)


def test_no_shadow_is_darker_than_before():
    photo = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    assert (remove_shadows(photo) >= photo - 1e-6).all()


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_a_photo_of_one_colour_stays(level):
    photo = torch.full((1, 3, 20, 30), level)
    assert torch.equal(remove_shadows(photo), photo)


def test_single_dark_pixels_are_no_shadow():
    photo = torch.full((1, 3, 40, 40), 0.7)
    photo[..., 10, 10] = 0.0
    assert torch.equal(remove_shadows(photo), photo)
