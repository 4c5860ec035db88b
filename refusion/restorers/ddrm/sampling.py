"""DDRM: the posterior of a known linear degradation under an unconditional diffusion (2022).

Denoising Diffusion Restoration Models (Kawar et al., NeurIPS 2022): y = H x + noise is solved one
coordinate of the spectral space of H at a time. Where H lets a coordinate through, the sampler
follows the data as closely as their noise deserves; where it does not, the prior fills it in.
No network is trained for the degradation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.operators import LinearOperator
from refusion.sde import NoiseSource

PredictNoise = Callable[[Tensor, int], Tensor]
"""`(xt, t) -> noise`, both (B, C, H, W) in [-1, 1] units, t in 1..T."""


@dataclass(frozen=True)
class DDRMSettings:
    """How the posterior is sampled.

    Attributes:
        steps: network evaluations, 1..T.
        eta: share of fresh noise where the data say little or nothing, 0..1.
        eta_b: weight of the data where they are better than the state, 0..1.
        floor: singular values up to this count as 0: without noise in the data, the rounding of a
            file would be amplified by their inverse.
        official: follow the published code where it leaves the paper. It scales the start by
            1 / sigma_T, keeps a noiseless measurement out of the last step, and takes U^T y of
            singular values below the floor for noise.

    Raises:
        ConfigError: a value is out of range.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    floor: float = 0.0
    official: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1:
            raise ConfigError(f"steps: expected a whole number from 1, got {self.steps!r}")
        for name in ("eta", "eta_b"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0..1, got {getattr(self, name)!r}")
        if not 0 <= self.floor < math.inf:
            raise ConfigError(f"floor: expected a number from 0, got {self.floor!r}")


def sample_ddrm(
    operator: LinearOperator,
    y: Tensor,
    sigma_y: float,
    predict_noise: PredictNoise,
    alpha_bar: Tensor,
    noises: NoiseSource,
    settings: DDRMSettings = DDRMSettings(),
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw from the posterior of y = H x + sigma_y noise (the paper's eqs. 5 to 8).

    Noise comes as images and is brought to the spectral space of H by its own V^T. The update looks
    at singular values only, so the result does not depend on which of many equal SVDs is used.

    Args:
        operator: H.
        y: data (B, *operator.data_shape), in the units of the prior's images, [-1, 1].
        sigma_y: standard deviation of the noise in y.
        predict_noise: the prior.
        alpha_bar: of the prior's process, float64 (T + 1,), from 1 at t = 0.
        noises: `initial` gives the noise of x_T, `step(t, ...)` that of the step that leaves t.
        settings: see there.
        callback: called after each step as `(done, steps)`.

    Returns:
        Images (B, C, H, W), dtype and device of y.

    Raises:
        ConfigError: more steps than the process has, or nothing is left above the floor.
    """
    times = [*step_times(len(alpha_bar) - 1, settings.steps), 0]
    data = _Data.of(operator, y, sigma_y, settings)
    like = y.new_empty(len(y), *operator.image_shape)
    signal = alpha_bar.sqrt().tolist()
    spread = ((1 - alpha_bar) / alpha_bar).sqrt().tolist()

    first = times[0]
    state = data.start(operator.to_spectrum(noises.initial(like)), spread[first])
    scale = 1 / spread[first] if settings.official else signal[first]
    xt = scale * operator.from_spectrum(state)
    for number, (a, b) in enumerate(pairwise(times), start=1):
        noise = predict_noise(xt, a).to(xt)
        x0 = xt / signal[a] - spread[a] * noise
        x0, noise, fresh = map(operator.to_spectrum, (x0, noise, noises.step(a, like)))
        xt = signal[b] * operator.from_spectrum(data.step(x0, noise, fresh, spread[b]))
        if callback is not None:
            callback(number, settings.steps)
    return xt


def step_times(T: int, steps: int) -> list[int]:
    """Times at which the network is called, falling: those of the published code, counted from 1.

    Any number of steps has as many times; T // steps apart where it divides.

    Raises:
        ConfigError: steps out of range.

    >>> step_times(1000, 20)[:3], step_times(1000, 20)[-1], len(step_times(1000, 30))
    ([951, 901, 851], 1, 30)
    """
    if not 1 <= steps <= T:
        raise ConfigError(f"steps: expected 1..{T}, the steps of the prior, got {steps}")
    return [1 + number * T // steps for number in reversed(range(steps))]


@dataclass(frozen=True)
class _Data:
    """The measurement in spectral space.

    `s` holds the singular values, 0 where nothing is known, `inverse` 1 / s or 0 there; `listed`
    tells where U has a column, known or below the floor.
    """

    uty: Tensor
    s: Tensor
    inverse: Tensor
    listed: Tensor
    sigma_y: float
    settings: DDRMSettings

    @classmethod
    def of(
        cls, operator: LinearOperator, y: Tensor, sigma_y: float, settings: DDRMSettings
    ) -> _Data:
        if not 0 <= sigma_y < math.inf:
            raise ConfigError(f"sigma: expected a noise level from 0, got {sigma_y!r}")
        exact = operator.singulars
        known = exact > settings.floor
        if not known.any():
            raise ConfigError(
                f"floor: {settings.floor:g} is above all singular values (largest "
                f"{exact.max():.3g}), so nothing is known of the image"
            )
        zero = torch.zeros((), dtype=exact.dtype)
        s, inverse = exact.where(known, zero), (1 / exact).where(known, zero)
        listed = (exact > 0 if settings.official else known).to(y.device)
        uty = operator.data_to_spectrum(y)
        return cls(uty, s.to(y), inverse.to(y), listed, sigma_y, settings)

    def start(self, z: Tensor, spread: float) -> Tensor:
        """Spectrum of x_T / sqrt(abar_T), with standard noise z (eq. 6)."""
        is_used = self.s * spread > self.sigma_y
        around = self.uty * self.inverse + self._left(spread, 1.0) * z
        return around.where(is_used, spread * z)

    def step(self, x0: Tensor, noise: Tensor, z: Tensor, spread: float) -> Tensor:
        """Spectrum of the next x / sqrt(abar), whose spread it is (eqs. 7, 8).

        Args:
            x0: what the network makes of the present state.
            noise: what it takes for its noise.
            z: standard noise.
            spread: sigma of the next state.
        """
        eta, eta_b = self.settings.eta, self.settings.eta_b
        fresh, kept = eta * spread * z, math.sqrt(1 - eta**2) * spread
        result = x0 + kept * noise + fresh  # (a) nothing is known
        reach = self.s * spread
        if self.sigma_y > 0:  # (b) the next state is better than the data
            towards = (self.uty - self.s * x0) / self.sigma_y
            result = (x0 + kept * towards + fresh).where(
                self.listed & (reach < self.sigma_y), result
            )
        # (c) the data are better. Without noise and at the last step both sides are 0, and the
        # paper's "or equal" makes the result agree with the data.
        better = reach > self.sigma_y if self.settings.official else reach >= self.sigma_y
        data = (1 - eta_b) * x0 + eta_b * self.uty * self.inverse + self._left(spread, eta_b) * z
        return data.where((self.s > 0) & better, result)

    def _left(self, spread: float, weight: float) -> Tensor:
        """Deviation that is left to add beside that of the weighted data."""
        return (spread**2 - (weight * self.sigma_y * self.inverse) ** 2).clamp(min=0).sqrt()
