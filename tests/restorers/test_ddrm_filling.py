"""The start of inpainting: unknown pixels from the known ones around them."""

import pytest
import torch
from ddrm_cases import ALPHA_BAR, normal

from refusion.operators import Identity, Inpainting
from refusion.restorers.ddrm.filling import fill_unknown
from refusion.restorers.ddrm.mean import FIRST, FIRST_FILLED, estimate_mean, start_state
from refusion.restorers.ddrm.sampling import DDRMSettings, SpectralData

SIZES = [(1, 1), (1, 37), (41, 1), (5, 3), (16, 16), (23, 40)]


def mask(height, width, share=0.3):
    known = torch.rand(height, width, generator=torch.Generator().manual_seed(1)) < share
    known[0, 0] = True
    return known


@pytest.mark.parametrize("size", SIZES)
def test_known_pixels_stay_and_a_flat_photo_is_flat(size):
    known = mask(*size)
    photo = normal(2, 3, *size, seed=2)
    filled = fill_unknown(photo * known, known)
    assert torch.equal(filled[..., known], photo[..., known])
    flat = torch.full_like(photo, -0.7)
    torch.testing.assert_close(fill_unknown(flat * known, known), flat)


@pytest.mark.parametrize("size", SIZES)
def test_filled_pixels_are_between_the_known_ones(size):
    known = mask(*size)
    photo = normal(1, 3, *size, seed=3)
    filled = fill_unknown(photo * known, known)
    low, high = photo[..., known].aminmax(dim=-1)
    excess = torch.maximum(filled - high[..., None, None], low[..., None, None] - filled)
    assert float(excess.max()) < 1e-9


def test_a_scratch_gets_the_colours_beside_it():
    ramp = torch.linspace(-1, 1, 64).double().expand(1, 3, 64, 64)
    known = torch.ones(64, 64, dtype=torch.bool)
    known[:, 20:24] = known[40:43] = False
    filled = fill_unknown(ramp * known, known)
    assert float((filled - ramp).abs().max()) < 0.15  # the scratch is 0.13 wide; gray would be 1


def test_a_channel_without_known_pixels_is_mid_gray():
    known = torch.ones(3, 8, 8, dtype=torch.bool)
    known[1] = False
    photo = torch.full((1, 3, 8, 8), 0.6)
    filled = fill_unknown(photo * known, known)
    assert torch.equal(filled, photo * known)


def test_inpainting_starts_filled_and_with_less_noise():
    known = mask(24, 32, 0.6)
    y = normal(1, 3, 24, 32, seed=4) * known
    levels = []

    def predict_noise(xt, t):
        a = float(ALPHA_BAR[t])
        levels.append(((1 - a) / a) ** 0.5)
        return torch.zeros_like(xt)  # the state is clean

    settings = DDRMSettings(steps=6, estimate="mean")
    for operator, first in ((Inpainting((3, 24, 32), known), FIRST_FILLED),
                            (Identity((3, 24, 32)), FIRST)):  # fmt: skip
        data = SpectralData.from_measurement(operator, y, 0.1, settings)
        state, level = start_state(operator, data)
        levels.clear()
        found = estimate_mean(operator, y, 0.1, predict_noise, ALPHA_BAR, settings)
        assert level == pytest.approx(first) and levels[0] == pytest.approx(first, rel=0.02)
        if first == FIRST_FILLED:
            torch.testing.assert_close(state, fill_unknown(y, known))
            # A network that changes nothing leaves the filled pixels as they are.
            torch.testing.assert_close(found[..., ~known], state[..., ~known])


@pytest.mark.parametrize(("sigma", "first"), [(0.0, 0.6), (0.1, 0.6), (0.3, 1.8), (2.0, FIRST)])
def test_more_noise_in_the_data_is_removed_from_a_higher_level(sigma, first):
    known = mask(24, 32, 0.6)
    settings = DDRMSettings(estimate="mean")
    y = normal(1, 3, 24, 32, seed=4) * known
    operator = Inpainting((3, 24, 32), known)
    data = SpectralData.from_measurement(operator, y, sigma, settings)
    assert start_state(operator, data)[1] == pytest.approx(first)
