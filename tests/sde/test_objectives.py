from __future__ import annotations

import pytest
import torch
from sde_families import MEAN_REVERTING

from refusion.errors import ConfigError
from refusion.sde import IRSDE, OBJECTIVES, SDES, Estimate
from refusion.sde.objectives import LOSSES as LOSS_TABLE

LOSSES = ["l1", "l2"]


def case(kind="IRSDE", error=0.0):
    """A true state at two times and an estimate whose noise is off by `error`."""
    sde, t = SDES[kind](50), torch.tensor([7, 88])
    generator = torch.Generator().manual_seed(1)
    x0, mu, noise = torch.rand(3, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    xt = sde.sample_marginal(x0, mu, t, noise)
    wrong = noise + error
    return sde, Estimate(sde.x0_from_noise(xt, wrong, mu, t), wrong), xt, x0, noise, mu, t


def reduce(difference, loss):
    return (difference.abs() if loss == "l1" else difference**2).mean()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize("objective", ["x0", "noise"])
def test_the_truth_costs_nothing(objective, kind, loss):
    assert OBJECTIVES[objective](*case(kind), loss=loss) < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
def test_noise_and_x0_distances(loss):
    arguments = case(error=0.1)
    found, x0 = arguments[1], arguments[3]
    assert OBJECTIVES["noise"](*arguments, loss=loss) == pytest.approx(
        0.1 if loss == "l1" else 0.01
    )
    expected = reduce(found.x0 - x0, loss).item()
    assert OBJECTIVES["x0"](*arguments, loss=loss).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case_name", ["one_step_a", "one_step_b"])
def test_maximum_likelihood_equals_the_recorded_steps(case_name, loss, recorded, sde_of):
    """At the true noise it compares the two recorded means of x_{t-1}."""
    settings, known = recorded(case_name)
    sde, t = sde_of(settings), torch.tensor(settings["t"])
    x0, mu, noise, xt = (known[key] for key in ("x0", "mu", "noise", "x_t"))
    found = OBJECTIVES["maximum_likelihood"](
        sde, Estimate(x0, noise), xt, x0, noise, mu, t, loss=loss
    )
    expected = reduce(known["reverse_sde_mean"] - known["optimum_mean"], loss)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_maximum_likelihood_grows_with_the_score_error(loss):
    """Beyond its floor the error of the mean is sigma_t^2 dt / std_t times the noise error."""
    sde, _, xt, x0, noise, mu, _ = case()
    t, big = torch.tensor([50, 50]), 1e6
    cost = OBJECTIVES["maximum_likelihood"](
        sde, Estimate(x0, noise + big), xt, x0, noise, mu, t, loss=loss
    )
    slope = (sde.sigma[50] ** 2 * sde.dt / sde.std(50)).item() * big
    assert cost.item() == pytest.approx(slope if loss == "l1" else slope**2, rel=1e-4)


def test_maximum_likelihood_floor_vanishes_with_the_step():
    """The Euler mean under the true score tends to the optimum, with order 2 in dt."""
    floors = []
    for T in (200, 400):
        x0, mu, noise = torch.tensor([0.9, 0.2, 0.7], dtype=torch.float64).reshape(3, 1, 1)
        sde = IRSDE(51, T)
        xt = sde.sample_marginal(x0, mu, T // 2, noise)
        floors.append(
            OBJECTIVES["maximum_likelihood"](sde, Estimate(x0, noise), xt, x0, noise, mu, T // 2)
        )
    assert (floors[0] / floors[1]).item() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_cost_is_a_scalar_with_gradient(objective):
    sde, found, xt, x0, noise, mu, t = case(error=0.1)
    wrong = found.noise.clone().requires_grad_()
    found = Estimate(sde.x0_from_noise(xt, wrong, mu, t), wrong)
    cost = OBJECTIVES[objective](sde, found, xt, x0, noise, mu, t, loss="l1")
    cost.backward()
    assert cost.shape == () and wrong.grad.isfinite().all() and wrong.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_unknown_loss_is_refused(objective):
    with pytest.raises(ConfigError, match="unknown loss 'l3'"):
        OBJECTIVES[objective](*case(), loss="l3")


@pytest.mark.parametrize(("size", "like"), [(1e-3, "l1"), (10.0, "l2")])
def test_l1_l2_is_l1_for_small_and_l2_for_large_differences(size, like):
    target = torch.zeros(1, 3, 4, 4)
    value = (target + size).requires_grad_()
    (slope,) = torch.autograd.grad(LOSS_TABLE["l1_l2"](value, target), value)
    (expected,) = torch.autograd.grad(LOSS_TABLE[like](value, target), value)
    weight = 1 if like == "l1" else 5
    torch.testing.assert_close(slope, weight * expected, rtol=0.02, atol=0)


def test_log_l2_is_the_error_of_each_image_in_decibels():
    target = torch.zeros(2, 3, 4, 4)
    value = target + torch.tensor([0.1, 0.01])[:, None, None, None]
    expected = 10 * torch.tensor([1e-2 + 1e-4, 1e-4 + 1e-4]).log10().mean()
    torch.testing.assert_close(LOSS_TABLE["log_l2"](value, target), expected)
