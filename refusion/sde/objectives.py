"""Training objectives: the difference between an estimate and the truth, in one of three spaces.

All objectives have the same arguments:

    sde: the process.
    estimate: the network's estimate at (xt, t).
    xt: state, (B, C, H, W).
    x0: clean image, the same shape, [0, 1] units.
    noise: standard normal noise in xt, the same shape.
    mu: degraded image, the same shape.
    t: time in 1..T, a number or a tensor (B,).
    loss: key of `LOSSES`: "l1" for the absolute, "l2" for the squared difference, "l1_l2" for their
        sum, "log_l2" for the error of each image in dB.

All return a scalar, the mean of the difference over the batch and all pixels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from refusion.errors import ConfigError, suggest
from refusion.sde.irsde import IRSDE, Time
from refusion.sde.prediction import Estimate

_SQUARES = 5.0  # weight of the squared difference in "l1_l2"; at 1 / 5 both terms are equal
_FLOOR = 1e-4  # squared error that "log_l2" adds, so that images above 40 dB hardly count


def _l1_l2(value: Tensor, target: Tensor) -> Tensor:
    """Mean of |d| + 5 d^2: small differences count as in "l1", large ones as in "l2"."""
    difference = (value - target).abs()
    return (difference + _SQUARES * difference.square()).mean()


def _log_l2(value: Tensor, target: Tensor) -> Tensor:
    """Mean over the images of 10 log10(mean squared difference + 1e-4)."""
    errors = (value - target).square().flatten(1).mean(1)
    return 10 * (errors + _FLOOR).log10().mean()


LOSSES = {
    "l1": functional.l1_loss,
    "l2": functional.mse_loss,
    "l1_l2": _l1_l2,
    "log_l2": _log_l2,
}


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
    """Maximum likelihood objective of IR-SDE (section 3); arguments in the module's docstring.

    Compares two means of x_{t-1}: that of the reverse SDE with the estimated score, and the optimal
    one given the true x0.

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
    """Compares the estimated with the true clean image; arguments in the module's docstring.

    All times have the same weight.

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
    """Compares the estimated with the true noise; arguments in the module's docstring.

    With "l2" this is denoising score matching, weighted by the variance v_t.

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
