"""The scattering model as the meaning of a network's output."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from refusion.sde import IRSDE, PREDICTIONS, SDES, estimate
from refusion.sde.scattering import (
    CHANNELS,
    MIN_TRANSMISSION,
    Scattering,
    scattering_from_output,
    scattering_loss,
)


def photos(count: int = 2, height: int = 20, width: int = 27) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def outputs(scale: float, height: int = 20, width: int = 27) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return scale * torch.randn(2, CHANNELS, height, width, generator=generator)


def haze(tau: float, airlight: float) -> Scattering:
    return Scattering(torch.full((2, 1, 20, 27), tau), torch.full((2, 3, 1, 1), airlight))


def test_clear_inverts_the_formula():
    x0, fog = photos(), haze(0.8, 0.9)
    t = fog.transmission
    torch.testing.assert_close(t, torch.full_like(t, math.exp(-0.8)))
    torch.testing.assert_close(fog.clear(x0 * t + 0.9 * (1 - t)), x0)


def test_no_depth_is_the_photo_to_the_bit():
    photo = photos()
    assert torch.equal(haze(0.0, 0.7).clear(photo), photo)
    assert torch.equal(haze(1.3, 0.7).scaled(0).clear(photo), photo)


def test_strengths_add_up():
    photo, fog = photos(), haze(0.9, 0.8)
    half = fog.scaled(0.5).clear(photo)
    torch.testing.assert_close(fog.scaled(0.5).clear(half), fog.clear(photo))
    torch.testing.assert_close(fog.scaled(-0.5).clear(half), photo)


def test_amplification_is_limited():
    dense = haze(50.0, 0.5)
    step = dense.clear(photos() + 0.01) - dense.clear(photos())
    torch.testing.assert_close(
        step, torch.full_like(step, 0.01 / MIN_TRANSMISSION), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (20, 27), (64, 3)])
def test_an_output_of_zeros_is_no_haze(size):
    mu = photos(2, *size)
    found = scattering_from_output(torch.zeros(2, CHANNELS, *size), mu)
    assert not found.tau.any()
    assert torch.equal(found.clear(mu), mu)
    difference = found.airlight.mean((-1, -2)) - mu.mean((-1, -2))
    assert difference.abs().max() < 0.05


@pytest.mark.parametrize("scale", [0.1, 3.0, 1e4])
def test_any_output_is_a_possible_haze(scale):
    found = scattering_from_output(outputs(scale), photos())
    assert found.airlight.min() >= 0
    assert found.airlight.max() <= 1
    assert found.tau.isfinite().all()
    assert found.clear(photos()).isfinite().all()


def test_attention_chooses_the_pixels_of_the_airlight():
    mu, output = photos(), torch.zeros(2, CHANNELS, 20, 27)
    output[:, 1, 4, 5] = 60.0
    output[:, 3] = -20.0
    airlight = scattering_from_output(output, mu).airlight
    torch.testing.assert_close(airlight.mean((-1, -2)), mu[..., 4, 5], rtol=0, atol=1e-4)


def test_airlight_may_follow_the_light_of_the_photo():
    rows = torch.linspace(0.2, 0.9, 64)[:, None].expand(64, 64)
    mu, output = rows.expand(1, 3, 64, 64), torch.zeros(1, CHANNELS, 64, 64)
    output[:, 3] = 20.0
    airlight = scattering_from_output(output, mu).airlight
    torch.testing.assert_close(airlight[..., 16:48, :], mu[..., 16:48, :], rtol=0, atol=0.02)
    output[:, 3] = -20.0
    torch.testing.assert_close(scattering_from_output(output, mu).airlight, mu.mean().expand_as(mu))


@pytest.mark.parametrize("kind", ["IRSDE", "GOUB", "DenoisingSDE"])
def test_x0_and_noise_explain_the_state(kind):
    sde, mu, output = SDES[kind](51), photos().double(), outputs(1.0).double()
    xt = mu + 0.1 * torch.randn(mu.shape, generator=torch.Generator().manual_seed(3)).double()
    for t in (1, 40, 62.5, 99):
        found = estimate(sde, "scattering", output, xt, mu, t)
        torch.testing.assert_close(sde.sample_marginal(found.x0, mu, t, found.noise), xt)
        expected = found.scattering.clear(mu).clamp(-0.25, 1.25)
        torch.testing.assert_close(found.x0, expected)


def test_other_predictions_have_no_haze():
    mu = photos()
    assert estimate(IRSDE(50), "noise", mu, mu, mu, 50).scattering is None
    assert PREDICTIONS["scattering"].channels == CHANNELS


def test_the_loss_is_zero_for_the_truth_and_weights_the_airlight_by_the_haze():
    truth, half = haze(0.5, 0.8), math.exp(-0.5)
    airlight = truth.airlight.expand(-1, -1, 20, 27)
    assert sum(scattering_loss(truth, truth.transmission, airlight).values()) == 0
    terms = scattering_loss(haze(0.5, 0.9), truth.transmission, airlight)
    assert float(terms["airlight"]) == pytest.approx(0.3 * 0.1 * (1 - half), rel=1e-5)
    assert not terms["transmission"]
    terms = scattering_loss(haze(0.0, 0.8), truth.transmission, airlight)
    assert float(terms["transmission"]) == pytest.approx(0.5 * (1 - half), rel=1e-5)
    assert float(terms["edges"]) == pytest.approx(0, abs=1e-7)


def test_the_airlight_of_no_haze_costs_nothing():
    clear = torch.ones(2, 1, 20, 27)
    terms = scattering_loss(haze(0.0, 0.2), clear, torch.full((2, 3, 20, 27), 0.9))
    assert sum(terms.values()) == 0


def spread_haze(tau: float, tau_spread: float, airlight_spread: float) -> Scattering:
    spread = torch.tensor([tau_spread, airlight_spread]).view(1, 2, 1, 1).expand(2, 2, 20, 27)
    return replace(haze(tau, 0.5), spread=spread.clone().requires_grad_())


def test_the_spread_is_learned_from_the_errors():
    """The best spread grows with the error; the loss has no gradient for the mean."""
    losses = {}
    for error in (0.1, 0.4):
        truth, wide = math.exp(-0.5 - error), torch.full((2, 3, 20, 27), 0.5)
        spreads = [0.02 * 1.1**k for k in range(50)]
        found = [
            scattering_loss(spread_haze(0.5, s, 0.1), torch.full((2, 1, 20, 27), truth), wide)[
                "spread"
            ].item()
            for s in spreads
        ]
        losses[error] = spreads[found.index(min(found))]
    # The maximum of Student's density with four degrees of freedom for one error.
    assert losses[0.1] == pytest.approx(0.1 * math.sqrt(2), rel=0.06)
    assert losses[0.4] == pytest.approx(0.4 * math.sqrt(2), rel=0.06)
    found = scattering_from_output(outputs(1.0).requires_grad_(), photos())
    means = torch.autograd.grad(
        scattering_loss(found, torch.full((2, 1, 20, 27), 0.5), torch.full((2, 3, 20, 27), 0.9))[
            "spread"
        ],
        (found.tau, found.airlight),
        allow_unused=True,
    )
    assert means == (None, None)


def test_an_outlier_has_a_small_gradient():
    found = spread_haze(0.0, 1e-3, 0.1)
    truth = torch.full((2, 1, 20, 27), 0.05), torch.full((2, 3, 20, 27), 0.5)
    scattering_loss(found, *truth)["spread"].backward()
    pull = (found.spread.grad * found.spread)[:, 0].sum().item()  # for the logarithm of the spread
    assert -0.02 <= pull < 0


def test_draws_have_the_mean_and_the_spread():
    found = spread_haze(1.0, 0.1, 0.05)
    found = replace(found, spread=found.spread.detach())
    generator = torch.Generator().manual_seed(4)
    draws = [found.drawn(torch.randn(2, 4, 5, 5, generator=generator)) for _ in range(400)]
    tau = torch.stack([draw.tau for draw in draws])
    logarithm = torch.stack([draw.airlight.log() for draw in draws])
    assert tau.mean().item() == pytest.approx(1.0, abs=0.01)
    assert logarithm.mean().item() == pytest.approx(math.log(0.5), abs=0.01)
    assert 0.07 < tau.std(0).mean().item() < 0.105  # interpolation averages a little
    assert 0.035 < logarithm.std(0).mean().item() < 0.053
    assert (tau[0] - tau[1]).std().item() > 0.01
    # Neighbours have nearly the same error.
    assert tau.diff(dim=-1).abs().max().item() < 0.1


def test_a_draw_without_haze_has_none():
    found = scattering_from_output(torch.zeros(2, CHANNELS, 20, 27), photos())
    assert not found.drawn(torch.ones(2, 4, 5, 5)).tau.any()
    with pytest.raises(ValueError, match="spread"):
        haze(0.5, 0.5).drawn(torch.ones(2, 4, 5, 5))


def test_the_spread_grows_with_the_depth():
    output = torch.zeros(2, CHANNELS, 20, 27)
    output[:, :1] = torch.linspace(-2, 6, 27)
    found = scattering_from_output(output, photos())
    ratio = found.spread[:, :1] / (found.tau.clamp_min(0) + 0.02)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.303))
    assert bool((scattering_from_output(outputs(100.0), photos()).spread > 0).all())
