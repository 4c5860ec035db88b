"""VPSDE: the process of DDPM."""

import math

import pytest
import torch

from refusion.errors import ConfigError
from refusion.sde import VPSDE, build_sde, estimate


def test_the_share_of_signal_is_the_product_of_the_steps():
    sde = build_sde({"type": "VPSDE"})
    assert sde == VPSDE(1000, 1e-4, 0.02)
    product = 1.0
    assert sde.alpha_bar[0] == 1
    for step in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        assert math.isclose(float(sde.alpha_bar[step + 1]), product, rel_tol=1e-12)
    assert float(sde.alpha_bar[1000]) == pytest.approx(4.036e-5, rel=1e-3)  # known of DDPM


def test_states_have_the_marginal_and_lead_back():
    sde = VPSDE(T=50)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(3, 3, 4, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    t = torch.tensor([1, 20, 50])
    xt = sde.sample_marginal(x0, x0, t, noise)
    a = sde.alpha_bar[20]
    assert torch.allclose(xt[1], a.sqrt() * (2 * x0[1] - 1) + (1 - a).sqrt() * noise[1])
    guess = estimate(sde, "noise", noise, xt, x0, t)
    assert torch.allclose(guess.x0, x0, atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"T": 0}, {"beta_first": 0.0}, {"beta_last": 1.0}, {"beta_first": 0.5}]
)
def test_ranges(settings):
    with pytest.raises(ConfigError, match=r"T: expected|beta_first, beta_last: expected"):
        build_sde({"type": "VPSDE", **settings})
