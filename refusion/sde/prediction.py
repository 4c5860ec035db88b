"""What a network's output means: the one place where it becomes an estimate of x0 and noise.

Published IR-SDE and Refusion weights predict noise. Predicting x0 as a residual on mu keeps the
estimate bounded at every time, which few-step sampling needs: x0 from noise divides by alpha_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from refusion.errors import ConfigError, suggest
from refusion.sde.irsde import IRSDE, Time


@dataclass(frozen=True)
class Estimate:
    """What the network believes at (xt, t); the two agree through the marginal.

    Attributes:
        x0: clean image, (B, C, H, W).
        noise: standard noise in xt, (B, C, H, W).
    """

    x0: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Prediction:
    """One meaning of a network's output.

    Attributes:
        estimate: `(sde, output, xt, mu, t) -> Estimate`.
        target: `(sde, x0, noise, mu, t) -> output` of a perfect network; inverse of `estimate`.
    """

    estimate: Callable[[IRSDE, Tensor, Tensor, Tensor, Time], Estimate]
    target: Callable[[IRSDE, Tensor, Tensor, Tensor, Time], Tensor]


def estimate(
    sde: IRSDE, prediction: str, output: Tensor, xt: Tensor, mu: Tensor, t: Time
) -> Estimate:
    """Read a network's output as an estimate of x0 and noise.

    Args:
        sde: the process that xt is a state of.
        prediction: key of `PREDICTIONS`, a property of the checkpoint.
        output: what the network returned for (xt, mu, t); cast to the dtype of xt.
        xt: state, (B, C, H, W).
        mu: degraded image, (B, C, H, W).
        t: time >= 1, int or LongTensor (B,).

    Raises:
        ConfigError: unknown prediction.
    """
    if prediction not in PREDICTIONS:
        hint = suggest(prediction, PREDICTIONS)
        raise ConfigError(f"prediction: unknown prediction {prediction!r}{hint}")
    return PREDICTIONS[prediction].estimate(sde, output.to(xt.dtype), xt, mu, t)


def _from_noise(sde: IRSDE, noise: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    return Estimate(sde.x0_from_noise(xt, noise, mu, t), noise)


def _from_x0_residual(sde: IRSDE, residual: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    # The process commutes with shifts; shifting by mu spares the rounding of mu + residual,
    # which 1 / std(t) would amplify at small t.
    noise = sde.noise_from_x0(xt - mu, residual, mu.new_zeros(()), t)
    return Estimate(mu + residual, noise)


def _from_velocity(sde: IRSDE, velocity: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    x0 = sde.x0_from_velocity(xt, velocity, mu, t)
    return Estimate(x0, sde.noise_from_velocity(xt, velocity, mu, t))


def _from_score(sde: IRSDE, score: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    return _from_noise(sde, sde.noise_from_score(score, t), xt, mu, t)


PREDICTIONS = {
    "noise": Prediction(_from_noise, lambda sde, x0, noise, mu, t: noise),
    "x0_residual": Prediction(_from_x0_residual, lambda sde, x0, noise, mu, t: x0 - mu),
    "velocity": Prediction(
        _from_velocity, lambda sde, x0, noise, mu, t: sde.velocity_from_noise(x0, noise, mu, t)
    ),
    "score": Prediction(_from_score, lambda sde, x0, noise, mu, t: sde.score_from_noise(noise, t)),
}
