"""The choice between two predictions of haze."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from refusion.sde import IRSDE, estimate
from refusion.sde.haze_choice import (
    correlation_with_height,
    haze_from_output,
    joined,
    share_of_second,
)
from refusion.sde.scattering import CHANNELS, Scattering, scattering_from_output

HEIGHT, WIDTH = 40, 60


def photos(count: int = 2) -> Tensor:
    return torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def outputs(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 2 * CHANNELS, HEIGHT, WIDTH, generator=generator)


def haze(veil: Tensor, airlight: float = 0.8) -> Scattering:
    """Haze with these values of 1 - t, (h, w)."""
    return Scattering(-torch.log1p(-veil)[None, None], torch.full((1, 3, 1, 1), airlight))


def even(amount: float) -> Scattering:
    return haze(torch.full((HEIGHT, WIDTH), amount))


def upwards(amount: float) -> Scattering:
    """Haze that grows from the bottom to the top of the photo, with this mean of 1 - t."""
    return haze(2 * amount * torch.linspace(1, 0, HEIGHT)[:, None].expand(HEIGHT, WIDTH))


def share(first: Scattering, second: Scattering) -> float:
    return share_of_second(first, second).item()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.0, 0.2, 1.0),  # haze in the distance that only the second one finds
        (0.12, 0.2, 1.0),
        (0.15, 0.2, 0.5),
        (0.18, 0.2, 0.0),  # the first one finds haze
        (0.5, 0.5, 0.0),
        (0.0, 0.09, 0.0),  # almost nothing in the distance
        (0.0, 0.105, 0.5),
        (0.15, 0.105, 0.25),
    ],
)
def test_the_second_prediction_counts_where_the_first_one_finds_little(first, second, expected):
    assert share(even(first), upwards(second)) == pytest.approx(expected, abs=1e-3)


def test_only_haze_that_grows_upwards_is_haze_in_the_distance():
    top = upwards(0.2)
    assert share(even(0), top) == 1
    upside_down = Scattering(top.tau.flip(-2), top.airlight)
    sideways = haze(0.4 * torch.linspace(0, 1, WIDTH).expand(HEIGHT, WIDTH))
    assert [share(even(0), other) for other in (upside_down, sideways, even(0.2))] == [0, 0, 0]


def test_the_correlation_is_that_of_numpy():
    values = torch.rand(3, 1, 7, 11, generator=torch.Generator().manual_seed(0))
    heights = np.repeat(np.arange(7, 0, -1), 11)
    expected = [np.corrcoef(one.flatten().numpy(), heights)[0, 1] for one in values]
    np.testing.assert_allclose(correlation_with_height(values), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (8, 8)])
def test_a_map_without_a_slope_has_no_correlation(size):
    assert correlation_with_height(torch.full((1, 1, *size), 0.3)).item() == 0


def test_a_share_of_0_gives_the_first_haze_to_the_bit():
    output, mu = outputs(), photos()
    first, second = (scattering_from_output(part, mu) for part in output.chunk(2, 1))
    zero = joined(first, second, torch.zeros(2, 1, 1, 1))
    for name in ("tau", "airlight", "spread"):
        assert torch.equal(getattr(zero, name), getattr(first, name))


def test_a_share_of_1_gives_the_second_haze():
    output, mu = outputs(), photos()
    first, second = (scattering_from_output(part, mu) for part in output.chunk(2, 1))
    one = joined(first, second, torch.ones(2, 1, 1, 1))
    for name in ("tau", "airlight", "spread"):
        torch.testing.assert_close(getattr(one, name), getattr(second, name))


def test_half_of_both_has_the_mean_depth_and_the_mean_log_airlight():
    dark, light = even(0.2), haze(torch.full((HEIGHT, WIDTH), 0.6), 0.2)
    half = joined(dark, light, torch.full((1, 1, 1, 1), 0.5))
    torch.testing.assert_close(half.tau, (dark.tau + light.tau) / 2)
    assert half.airlight.flatten()[0].item() == pytest.approx(math.sqrt(0.8 * 0.2))
    assert half.spread is None


def test_one_network_is_read_as_before_and_two_are_joined():
    output, mu = outputs(), photos()
    alone = haze_from_output(output[:, :CHANNELS], mu)
    assert torch.equal(alone.tau, scattering_from_output(output[:, :CHANNELS], mu).tau)
    first, second = (scattering_from_output(part, mu) for part in output.chunk(2, 1))
    expected = joined(first, second, share_of_second(first, second))
    assert torch.equal(haze_from_output(output, mu).tau, expected.tau)


def test_photos_of_a_batch_do_not_depend_on_each_other():
    output, mu = outputs(3), photos(3)
    whole = haze_from_output(output, mu)
    for number in range(3):
        alone = haze_from_output(output[number, None], mu[number, None])
        torch.testing.assert_close(whole.tau[number, None], alone.tau, rtol=1e-5, atol=1e-6)


def test_the_prediction_takes_the_output_of_a_pair():
    sde, output, mu = IRSDE(max_sigma=50, T=10), outputs(), photos()
    found = estimate(sde, "scattering", output, mu, mu, 10)
    torch.testing.assert_close(found.scattering.tau, haze_from_output(output, mu).tau)


def test_both_networks_learn_where_both_count():
    output, mu = torch.zeros(1, 2 * CHANNELS, HEIGHT, WIDTH), photos(1)
    output[:, CHANNELS] = 2.5 * torch.linspace(1, 0, HEIGHT)[:, None]
    output[:, 0] = 1.55  # a mean of 1 - t of 0.15, where half of each counts
    output.requires_grad_()
    haze_from_output(output, mu).tau.mean().backward()
    first, second = output.grad.chunk(2, 1)
    assert torch.isfinite(output.grad).all()
    assert first.abs().max() > 0 and second.abs().max() > 0
