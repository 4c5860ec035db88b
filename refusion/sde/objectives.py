"""Training objectives: how far an estimate is from the truth, in three spaces.

All take `(sde, estimate, xt, x0, noise, mu, t, *, loss)` and return a scalar, the mean over the
batch and all pixels of the absolute ("l1") or squared ("l2") difference.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from refusion.errors import ConfigError, suggest
from refusion.sde.irsde import IRSDE, Time
from refusion.sde.prediction import Estimate

LOSSES = {"l1": functional.l1_loss, "l2": functional.mse_loss}


def maximum_likelihood_loss(
    sde: IRSDE,
    estimate: Estimate,
    xt: Tensor,
    x0: Tensor,
    noise: Tensor,
    mu: Tensor,
    t: Time,
    *,
    loss: str = "l1",
) -> Tensor:
    """Expected x_{t-1} under the estimated score against the optimal x_{t-1} (IR-SDE, section 3).

    Raises:
        ConfigError: unknown loss.
    """
    expected = sde.reverse_sde_mean(xt, mu, sde.score_from_noise(estimate.noise, t), t)
    return _loss(loss, expected, sde.optimum_mean(xt, x0, mu, t))


def x0_loss(
    sde: IRSDE,
    estimate: Estimate,
    xt: Tensor,
    x0: Tensor,
    noise: Tensor,
    mu: Tensor,
    t: Time,
    *,
    loss: str = "l1",
) -> Tensor:
    """Estimated clean image against the clean image; equal weight at every time.

    Raises:
        ConfigError: unknown loss.
    """
    return _loss(loss, estimate.x0, x0)


def noise_loss(
    sde: IRSDE,
    estimate: Estimate,
    xt: Tensor,
    x0: Tensor,
    noise: Tensor,
    mu: Tensor,
    t: Time,
    *,
    loss: str = "l1",
) -> Tensor:
    """Estimated noise against the noise: denoising score matching weighted by the variance.

    Raises:
        ConfigError: unknown loss.
    """
    return _loss(loss, estimate.noise, noise)


def _loss(name: str, value: Tensor, target: Tensor) -> Tensor:
    if name not in LOSSES:
        raise ConfigError(f"loss: unknown loss {name!r}{suggest(name, LOSSES)}")
    return LOSSES[name](value, target)


OBJECTIVES = {
    "maximum_likelihood": maximum_likelihood_loss,
    "x0": x0_loss,
    "noise": noise_loss,
}
