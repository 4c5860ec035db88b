"""A denoising model as the prior of DDRM, at noise levels far above those it knows."""

from __future__ import annotations

import math

import pytest
import tiny_models
import torch
import torch.nn.functional as F

from refusion.checkpoint import build_model, read_checkpoint
from refusion.config import config_to_dict
from refusion.errors import CheckpointError
from refusion.restorers import load_prior
from refusion.restorers.ddrm.denoising_prior import LARGEST, is_denoiser, reduction
from refusion.sde import VPSDE, build_sde
from refusion.weights import find_weights

ALPHA_BAR = VPSDE().alpha_bar
SDE = build_sde(config_to_dict(read_checkpoint(find_weights("denoise")).model)["sde"])
LEVELS = ((1 - ALPHA_BAR[1:]) / ALPHA_BAR[1:]).sqrt() / 2  # of a photo in [0, 1], at t = 1..T


@pytest.fixture(scope="module")
def prior():
    return load_prior(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def model():
    return build_model(read_checkpoint(find_weights("denoise")))


def time_of(level):
    return int((LEVELS - level).abs().argmin()) + 1


def scene(height, width):
    """A photo (1, 3, H, W) of broad waves."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(rows / (20 + 5 * k)) * torch.cos(columns / (25 + 4 * k)) for k in range(3)]
    return 0.5 + 0.3 * torch.stack(waves)[None]


def state_of(photo, t, seed=0):
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(seed))
    return float(ALPHA_BAR[t].sqrt()) * (2 * photo - 1) + float((1 - ALPHA_BAR[t]).sqrt()) * noise


def estimate_of(prior, xt, t):
    signal, std = float(ALPHA_BAR[t].sqrt()), float((1 - ALPHA_BAR[t]).sqrt())
    return ((xt - std * prior.predict_noise(xt, t)) / signal + 1) / 2


def test_the_shipped_prior_is_the_denoising_model(prior):
    assert (prior.side, prior.steps, prior.factor) == (None, 20, LARGEST)
    assert torch.equal(prior.alpha_bar, ALPHA_BAR)


def test_within_the_levels_of_the_model_it_is_the_model(prior, model):
    photo, t = scene(48, 64), time_of(25 / 255)
    xt = state_of(photo, t)
    noisy = (xt / float(ALPHA_BAR[t].sqrt()) + 1) / 2
    known = SDE.optimal_timestep(float(LEVELS[t - 1]))
    with torch.no_grad():
        noise = model.network(noisy, noisy, known)
        expected = SDE.x0_from_noise(noisy, noise, noisy, known)
        torch.testing.assert_close(estimate_of(prior, xt, t), expected, rtol=0, atol=1e-5)


def test_above_them_it_is_the_model_on_means(prior, model):
    photo, t = scene(64, 128), time_of(4 * SDE.lam)
    t -= int(LEVELS[t - 1] > 4 * SDE.lam)  # the nearest time may be just above
    xt = state_of(photo, t)
    means = F.avg_pool2d((xt / float(ALPHA_BAR[t].sqrt()) + 1) / 2, 4)
    known = SDE.optimal_timestep(float(LEVELS[t - 1]) / 4)
    with torch.no_grad():
        noise = model.network(means, means, known)
        coarse = SDE.x0_from_noise(means, noise, means, known)
        expected = F.interpolate(coarse, scale_factor=4, mode="bicubic")
        torch.testing.assert_close(estimate_of(prior, xt, t), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.6, 1.2, 2.5])
def test_the_scene_remains_at_every_level(prior, level):
    """Without reduced copies the estimate at 1.2 has an error of more than 0.2."""
    photo, t = scene(256, 320), time_of(level)
    with torch.no_grad():
        error = estimate_of(prior, state_of(photo, t), t) - photo
    assert float(error.square().mean().sqrt()) < 0.12


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 13), (33, 65)])
@pytest.mark.parametrize("t", [1, 300, 675, 1000])
def test_any_size_and_any_time(prior, size, t):
    with torch.no_grad():
        noise = prior.predict_noise(state_of(torch.full((2, 3, *size), 0.5), t), t)
    assert noise.shape == (2, 3, *size) and bool(noise.isfinite().all())


def test_the_reduction_is_the_smallest_that_is_enough():
    for level in (0.01, 0.3, 0.4, 0.61, 1.0, 2.0, 4.0):
        f = reduction(level, 0.3, 1000)
        assert level / f <= 0.3 and (f == 1 or level / f > 0.15)
    assert reduction(100, 0.3, 1000) == LARGEST
    assert [reduction(100, 0.3, side) for side in (1, 15, 16, 64)] == [1, 1, 2, 8]


@pytest.mark.parametrize("task", ["dehaze", "deshadow", "blind", "bokeh"])
def test_other_models_are_no_priors(task):
    with pytest.raises(CheckpointError, match=rf"a '{task}' model, not a prior; DDRM needs a deno"):
        load_prior(find_weights(task), device="cpu")


def test_a_model_that_sees_a_second_image_is_no_denoiser(tiny_checkpoint):
    for kind in tiny_models.CONFIGS:
        config = read_checkpoint(tiny_checkpoint(kind)).model
        assert not is_denoiser(config) or config.network.settings["conditional"] is False


def test_it_is_a_prior_of_photos(prior):
    """Half of the pixels are known: the missing ones get the values of the waves."""
    from refusion.restorers import DDRM
    from refusion.restorers.ddrm.problems import inpaint
    from refusion.restorers.ddrm.sampling import DDRMSettings

    photo = scene(64, 96)
    known = torch.rand(64, 96, generator=torch.Generator().manual_seed(1)) > 0.5
    settings = DDRMSettings(steps=10, estimate="mean")
    restored = DDRM(prior, inpaint(known), 0.0, settings).restore(photo * known)
    error = (restored - photo).square().mean().sqrt()
    assert -20 * math.log10(float(error)) > 28
