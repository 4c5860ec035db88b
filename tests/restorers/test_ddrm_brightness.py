"""The brightness of areas: the data correct a network that makes photos darker."""

import pytest
import torch
from ddrm_cases import ALPHA_BAR, normal, operators_of_tasks

from refusion.operators import Identity, Inpainting
from refusion.restorers.ddrm.brightness import brightness_error
from refusion.restorers.ddrm.mean import estimate_mean
from refusion.restorers.ddrm.sampling import DDRMSettings, SpectralData

SHAPE = (3, 64, 96)
SIGMA = 0.4
OPERATORS = operators_of_tasks(SHAPE, blur=2.0)
DARKER = 0.03


def measured(operator, truth, sigma=SIGMA):
    clean = operator.forward(truth)
    return clean + sigma * normal(*clean.shape, seed=2)


def spectral(operator, y, sigma=SIGMA):
    return SpectralData.from_measurement(operator, y, sigma, DDRMSettings(estimate="mean"))


@pytest.mark.parametrize("name", OPERATORS)
def test_a_network_that_makes_photos_darker_does_not_make_the_mean_darker(name):
    """The mean over the photo agrees with the data within their noise."""
    operator, truth = OPERATORS[name], torch.full((1, *SHAPE), 0.3).double()

    def predict_noise(xt, t):
        a = float(ALPHA_BAR[t])  # the photo is known, apart from its brightness
        x0 = (xt / a**0.5).mean(dim=(-2, -1), keepdim=True) - DARKER
        return (xt - a**0.5 * x0) / (1 - a) ** 0.5

    y = measured(operator, truth)
    found = estimate_mean(operator, y, SIGMA, predict_noise, ALPHA_BAR, DDRMSettings(steps=12))
    sums = operator.forward(torch.ones_like(truth))  # the data know brightness with these weights
    noise = SIGMA / float(sums.square().sum().sqrt())
    rest = float((sums * (y - operator.forward(found))).sum() / sums.square().sum())
    assert abs(rest) < 3 * noise
    tolerance = 3 * noise + (0.01 if name == "cs" else 0.002)
    assert abs(float((found - truth).mean())) < tolerance


@pytest.mark.parametrize("name", ["denoise", "inpaint", "sr_mean", "sr", "blur"])
def test_dark_areas_are_found_where_they_are(name):
    operator, truth = OPERATORS[name], torch.full((1, *SHAPE), 0.3).double()
    error = torch.zeros(1, *SHAPE).double()
    error[:, 0, :, 48:] = 0.3  # red, in the right half
    data = spectral(operator, measured(operator, truth, 0.05), 0.05)
    found = brightness_error(operator, data, truth - error, 0.1)
    assert float(found[:, 0, :, 64:].mean()) == pytest.approx(0.3, abs=0.03)
    assert float(found[:, 0, :, :32].mean()) == pytest.approx(0, abs=0.03)
    assert float(found[:, 1:].abs().mean()) < 0.02


def test_it_is_the_mean_of_the_posterior_of_one_area():
    """E(c) for one area of the whole photo, whose c and noise are Gaussian."""
    operator = Identity((3, 32, 32))
    level, n = 0.1, 32 * 32
    c, noise = 0.01 * normal(500, 3, 1, 1, seed=7), SIGMA * normal(500, 3, 1, 1, seed=8) / n**0.5
    flat = (c + noise).expand(500, 3, 32, 32)  # without variations inside, only the mean counts
    found = brightness_error(operator, spectral(operator, flat), torch.zeros_like(flat), level)
    gain = 0.01**2 / (0.01**2 + SIGMA**2 / n)
    first = gain * flat
    assert float((found - first).square().mean()) < 0.1 * float(first.square().mean())


def test_where_nothing_is_known_nothing_is_added():
    kept = torch.ones(64, 96, dtype=torch.bool)
    kept[:, 32:] = False
    operator = Inpainting(SHAPE, kept)
    truth = torch.full((1, *SHAPE), 0.3).double()
    data = spectral(operator, operator.forward(truth))
    assert not brightness_error(operator, data, truth, 0.2).any()
    small = Identity((3, 8, 8))
    flat = torch.zeros(1, 3, 8, 8)
    assert not brightness_error(small, spectral(small, flat + 1), flat, 0.2).any()  # no area
