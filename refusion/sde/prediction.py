"""Conversion of a network's output to an estimate of x0 and noise; no other module converts it.

Published IR-SDE and Refusion weights predict noise. A prediction of x0 as a residual on mu gives a
bounded estimate of x0 at every time, which sampling with few steps needs. The estimate of x0 from
noise is not bounded in this way, because it divides by alpha_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from refusion.errors import ConfigError, short, suggest
from refusion.sde.haze_choice import haze_from_output
from refusion.sde.irsde import IRSDE, Time
from refusion.sde.scattering import CHANNELS, Scattering

_LARGEST_OVERSHOOT = 0.25  # of x0 beyond [0, 1], where the scattering model divides by a small t


@dataclass(frozen=True)
class Estimate:
    """The network's estimate at (xt, t): xt is the marginal mean of `x0` plus std_t times `noise`.

    Attributes:
        x0: clean image, (B, C, H, W).
        noise: noise in xt, (B, C, H, W), unit variance.
        scattering: the haze between mu and x0, if the network predicts it; else None.
    """

    x0: Tensor
    noise: Tensor
    scattering: Scattering | None = None


@dataclass(frozen=True)
class Prediction:
    """One meaning of a network's output: a pair of inverse conversions.

    Attributes:
        estimate: `(sde, output, xt, mu, t) -> Estimate`; images (B, C, H, W).
        target: `(sde, x0, noise, mu, t) -> output`, the output of a perfect network; None if the
            images alone do not determine it.
        channels: channels of the output for RGB photos; None for those of the state.
    """

    estimate: Callable[[IRSDE, Tensor, Tensor, Tensor, Time], Estimate]
    target: Callable[[IRSDE, Tensor, Tensor, Tensor, Time], Tensor] | None
    channels: int | None = None


def estimate(
    sde: IRSDE, prediction: str, output: Tensor, xt: Tensor, mu: Tensor, t: Time
) -> Estimate:
    """Convert a network's output to an estimate of x0 and noise.

    Args:
        sde: the process of the state xt.
        prediction: key of `PREDICTIONS`, stored in the checkpoint.
        output: output of the network for (xt, mu, t), (B, C, H, W), or with the channels of the
            prediction; cast to the dtype of xt.
        xt: state, (B, C, H, W).
        mu: degraded image, (B, C, H, W).
        t: time, 0 < t <= T: a number, or a tensor (B,).

    Returns:
        The estimate, in the dtype of xt.

    Raises:
        ConfigError: unknown prediction.
    """
    if not isinstance(prediction, str) or prediction not in PREDICTIONS:
        hint = suggest(str(prediction), PREDICTIONS)
        raise ConfigError(f"prediction: unknown prediction {short(prediction)}{hint}")
    return PREDICTIONS[prediction].estimate(sde, output.to(xt.dtype), xt, mu, t)


def _from_noise(sde: IRSDE, noise: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    return Estimate(sde.x0_from_noise(xt, noise, mu, t), noise)


def _from_x0_residual(sde: IRSDE, residual: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    # The process commutes with shifts. A shift by mu avoids the rounding error of mu + residual,
    # which 1 / std(t) would amplify at small t.
    noise = sde.noise_from_x0(xt - mu, residual, mu.new_zeros(()), t)
    return Estimate(mu + residual, noise)


def _from_velocity(sde: IRSDE, velocity: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    x0 = sde.x0_from_velocity(xt, velocity, mu, t)
    return Estimate(x0, sde.noise_from_velocity(xt, velocity, mu, t))


def _from_score(sde: IRSDE, score: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    return _from_noise(sde, sde.noise_from_score(score, t), xt, mu, t)


def _from_scattering(sde: IRSDE, output: Tensor, xt: Tensor, mu: Tensor, t: Time) -> Estimate:
    scattering = haze_from_output(output, mu)
    x0 = scattering.clear(mu).clamp(-_LARGEST_OVERSHOOT, 1 + _LARGEST_OVERSHOOT)
    noise = sde.noise_from_x0(xt - mu, x0 - mu, mu.new_zeros(()), t)
    return Estimate(x0, noise, scattering)


PREDICTIONS = {
    "noise": Prediction(_from_noise, lambda sde, x0, noise, mu, t: noise),
    "x0_residual": Prediction(_from_x0_residual, lambda sde, x0, noise, mu, t: x0 - mu),
    "velocity": Prediction(
        _from_velocity, lambda sde, x0, noise, mu, t: sde.velocity_from_noise(x0, noise, mu, t)
    ),
    "score": Prediction(_from_score, lambda sde, x0, noise, mu, t: sde.score_from_noise(noise, t)),
    "scattering": Prediction(_from_scattering, None, CHANNELS),
}
