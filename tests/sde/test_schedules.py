from __future__ import annotations

import math

import pytest
import torch
from sde_families import MEAN_REVERTING

from refusion.sde import IRSDE, SDES, THETA_SCHEDULES

CASES = [f"schedule_{i}" for i in range(6)] + ["schedule_denoising_0", "schedule_denoising_1"]

# Theta, alpha, sigma for lam = 50/255, T = 100, cosine, eps = 0.005, from an independent
# float64 implementation.
GOLDEN = {
    1: (1.7639899502557192e-4, 0.9998236165623624, 0.003682600192988436),
    2: (5.136753832462723e-4, 0.9994864565253664, 0.006283153428619314),
    10: (0.014743222414243126, 0.9853649267479383, 0.033423155297999746),
    50: (1.0193715869796625, 0.36082161394346574, 0.18286957837636397),
    90: (4.266687104980107, 0.01402818014486233, 0.19605913730189317),
    99: (5.194247857050724, 0.005548387926830202, 0.19607541325043987),
    100: (5.298317366548036, 0.005, 0.19607598037683804),
}


@pytest.mark.parametrize("case", CASES)
def test_tables_equal_the_recorded_ones(case, recorded, sde_of):
    settings, table = recorded(case)
    sde = sde_of(settings)
    theta_bar, all_times = table["thetas_cumsum"].double(), torch.arange(sde.T + 1)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(sde.theta, table["thetas"].double(), **close)
    torch.testing.assert_close(sde.theta_bar / sde.dt, theta_bar, **close)
    # The recorded values were rounded to float32 before the root, which magnifies it at small t.
    squares = {"rtol": 1e-5, "atol": 3e-8}
    torch.testing.assert_close(sde.sigma**2, table["sigmas"].double() ** 2, **squares)
    torch.testing.assert_close(
        sde.std(all_times) ** 2, table["sigma_bars"].double() ** 2, **squares
    )
    assert sde.dt == pytest.approx(settings["dt"], rel=1e-5)


@pytest.mark.parametrize(("t", "expected"), GOLDEN.items())
def test_cosine_schedule_has_the_golden_values(t, expected):
    sde = IRSDE(50)
    found = (sde.theta_bar[t].item(), sde.alpha(t).item(), sde.std(t).item())
    assert found == pytest.approx(expected, rel=1e-12)


def test_cosine_schedule_has_the_golden_theta_and_dt():
    sde = IRSDE(50)
    assert sde.dt == pytest.approx(0.10409380785667743, rel=1e-13)
    golden = [0.001694615641964492, 0.5061564095593623, 0.9997665724804802]
    assert sde.theta[[1, 50, 100]].tolist() == pytest.approx(golden, rel=1e-12)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize("schedule", THETA_SCHEDULES)
@pytest.mark.parametrize("T", [1, 7, 100])
def test_theta_bar_rises_from_zero_to_minus_log_eps(kind, schedule, T):
    sde = SDES[kind](51, T, schedule, 0.01)
    assert sde.theta.shape == sde.theta_bar.shape == sde.sigma.shape == (T + 1,)
    assert sde.theta.dtype == torch.float64 and (sde.theta > 0).all()
    assert sde.theta_bar[0] == 0 and (sde.theta_bar.diff() > 0).all()
    assert sde.theta_bar[T].item() == pytest.approx(-math.log(0.01), rel=1e-13)
    # One step of Theta is theta dt, and sigma^2 dt is the noise that goes with it.
    torch.testing.assert_close(sde.theta_bar.diff(), sde.theta[1:] * sde.dt)
    torch.testing.assert_close(sde.sigma**2 / sde.theta, torch.full((T + 1,), 2 * 0.04).double())
