"""Colour after a reference: what is taken from where, and that no direction is preferred."""

import pytest
import torch

from refusion.stable_diffusion.color import COLOR_FIXES, adain_fix, low_frequencies, wavelet_fix


def picture(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (64, 40)])
def test_wavelet_fix_keeps_detail_and_takes_colour(size):
    image, reference = picture(0, 2, 3, *size), picture(1, 2, 3, *size)
    fixed = wavelet_fix(image, reference)
    low = low_frequencies(image)
    assert torch.allclose(fixed - low_frequencies(reference), image - low, atol=1e-12)
    cast = torch.tensor([0.1, -0.2, 0.05], dtype=torch.float64).view(3, 1, 1)
    assert torch.allclose(wavelet_fix(reference + cast, reference), reference, atol=1e-12)
    assert torch.equal(COLOR_FIXES["none"](image, reference), image)


def test_low_frequencies_are_a_symmetric_mean():
    impulse = torch.zeros(1, 1, 129, 129, dtype=torch.float64)
    impulse[..., 64, 64] = 1
    window = low_frequencies(impulse)
    assert window.sum().item() == pytest.approx(1) and window.min() >= 0
    for turned in (window.flip(-1), window.flip(-2), window.mT):
        assert torch.allclose(turned, window, atol=1e-15)
    # Variance of the five windows together: (1 + 4 + 16 + 64 + 256) / 2 per axis.
    place = torch.arange(129, dtype=torch.float64) - 64
    assert (window[0, 0].sum(dim=0) * place**2).sum().item() == pytest.approx(341 / 2)


def test_low_frequencies_against_a_plain_sum():
    image = picture(2, 1, 1, 9, 9)
    expected = 0
    weights = {-1: 0.25, 0: 0.5, 1: 0.25}
    index = torch.arange(9)
    for down, first in weights.items():
        for across, second in weights.items():
            rows, columns = (index + down).clamp(0, 8), (index + across).clamp(0, 8)
            expected = expected + first * second * image[..., rows, :][..., columns]
    assert torch.allclose(low_frequencies(image, 1), expected, atol=1e-14)


def test_adain_takes_mean_and_spread():
    image, reference = picture(0, 2, 3, 12, 9), 0.2 + 0.3 * picture(1, 2, 3, 30, 20)
    fixed = adain_fix(image, reference)
    mean = fixed.mean(dim=(-2, -1))
    assert torch.allclose(mean, reference.mean(dim=(-2, -1)), atol=1e-12)
    spread = fixed.std(dim=(-2, -1), correction=0)
    assert torch.allclose(spread, reference.std(dim=(-2, -1), correction=0), atol=1e-7)
    # The sign of detail is kept: brighter stays brighter.
    order = image[0, 0].flatten().argsort()
    assert torch.equal(fixed[0, 0].flatten().argsort(), order)
    flat = torch.full((1, 3, 4, 4), 0.3)
    assert torch.isfinite(adain_fix(flat, reference[:1].float())).all()
