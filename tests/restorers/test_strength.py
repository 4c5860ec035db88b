"""`strength` interpolates photo and restoration, which is the mean of the process."""

from dataclasses import replace

import pytest
import tiny_models
import torch
import torch.nn.functional as F

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError
from refusion.restorers import Conditions, Refusion
from refusion.sde import SAMPLERS


@pytest.fixture
def model_of(tiny_checkpoint):
    return lambda kind: build_model(read_checkpoint(tiny_checkpoint(kind)))


def photo(restorer, *size):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3 * restorer.info.views, *size, generator=generator) * 0.4 + 0.3


def enlarged(model, lq):
    up = model.config.upscale
    return F.interpolate(lq, scale_factor=up.factor, mode=up.mode).clamp(0, 1) if up else lq


@pytest.mark.parametrize("kind", tiny_models.CONFIGS)
def test_strength_0_is_the_photo_and_1_the_restoration_bitwise(model_of, kind):
    model = model_of(kind)
    restorer = Refusion(model)
    lq = photo(restorer, 17, 22)
    conditions = tiny_models.known_of(kind, lq)
    before = lq.clone()
    assert torch.equal(
        restorer.restore(lq, conditions=conditions, strength=1),
        restorer.restore(lq, conditions=conditions),
    )
    nothing = restorer.restore(lq, conditions=conditions, strength=0)
    assert torch.equal(nothing, enlarged(model, lq))
    assert torch.equal(lq, before)
    assert nothing.data_ptr() != lq.data_ptr()


@pytest.mark.parametrize("kind", [kind for kind in tiny_models.CONFIGS if kind != "unet"])
def test_the_change_is_proportional_to_strength(model_of, kind):
    model = model_of(kind)
    restorer = Refusion(model)
    lq = photo(restorer, 17, 22)
    conditions = tiny_models.known_of(kind, lq)
    # For a latent model, a strength near 0 gives the reconstruction by the U-Net.
    start = restorer.restore(lq, conditions=conditions, strength=1e-7)
    results = [restorer.restore(lq, conditions=conditions, strength=k / 4) for k in (1, 2, 3, 4)]
    changes = [float((result - start).norm()) for result in results]
    assert changes == sorted(changes) and changes[0] > 0
    for k, change in enumerate(changes, start=1):
        assert change == pytest.approx(changes[-1] * k / 4, rel=0.1 if kind == "latent" else 0.02)


class Oracle(torch.nn.Module):
    """A perfect network: it returns the residual x0 - mu."""

    factor = 1

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, xt, mu, t):
        return self.clean - mu


@pytest.mark.parametrize("t", [1, 30, 60, 90])
def test_strength_alpha_t_is_the_mean_of_the_process_at_t(model_of, monkeypatch, t):
    restorer = Refusion(model_of("pixel"))
    lq = photo(restorer, 12, 12)
    clean = 1 - lq
    networks = replace(restorer._model, network=Oracle(clean))
    monkeypatch.setattr(restorer, "_model", networks)
    result = restorer.restore(lq, strength=float(restorer._model.sde.alpha(t)), tile=None)
    expected = restorer._model.sde.marginal_mean(clean, lq, t)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


class NoiseOracle(torch.nn.Module):
    """A perfect network: it returns the noise in the state."""

    factor, conditional = 1, False

    def __init__(self, clean, sde):
        super().__init__()
        self.clean, self.sde = clean, sde

    def forward(self, xt, mu, t):
        return (xt - self.clean) / float(self.sde.std(int(t)))


@pytest.mark.parametrize("strength", [0.2, 0.7])
def test_denoising_leaves_a_share_of_the_noise(model_of, monkeypatch, strength):
    restorer = Refusion(model_of("denoise"))
    clean = photo(restorer, 12, 12)
    noise = 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    networks = replace(restorer._model, network=NoiseOracle(clean, restorer._model.sde))
    monkeypatch.setattr(restorer, "_model", networks)
    conditions = Conditions(noise_std=0.05)
    result = restorer.restore(clean + noise, conditions=conditions, strength=strength, tile=None)
    torch.testing.assert_close(result, clean + (1 - strength) * noise, rtol=0, atol=1e-5)


def test_strength_works_on_a_reduced_copy_and_in_tiles(model_of):
    model = model_of("latent")
    sampling = replace(model.config.sampling, process_side=40)
    restorer = Refusion(replace(model, config=replace(model.config, sampling=sampling)))
    lq = photo(restorer, 60, 80)
    results = [restorer.restore(lq, strength=s) for s in (1e-7, 0.05, 0.1)]  # decoding is nonlinear
    inside = torch.stack([(r > 0) & (r < 1) for r in results]).all(0)  # pixels that are not clamped
    half, full = (float((result - results[0])[inside].norm()) for result in results[1:])
    assert half == pytest.approx(full / 2, rel=0.1)
    tiled = restorer.restore(lq, strength=0.05, tile=16)
    torch.testing.assert_close(tiled, results[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strength_works_with_every_sampler(model_of, sampler):
    restorer = Refusion(model_of("pixel"))
    lq = photo(restorer, 9, 9)
    half, full = (restorer.restore(lq, sampler=sampler, steps=10, strength=s) for s in (0.5, 1))
    inside = (full > 0) & (full < 1)  # pixels that are not clamped
    torch.testing.assert_close(half[inside], (lq + full)[inside] / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("kind", ["latent", "unet"])
def test_a_strength_out_of_range_raises_an_error(model_of, kind, wrong):
    restorer = Refusion(model_of(kind))
    with pytest.raises(ConfigError, match=r"strength: expected 0\.\.1, got"):
        restorer.restore(photo(restorer, 8, 8), strength=wrong)
