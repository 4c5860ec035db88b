"""The DDRM sampler: posterior sampling for a known linear degradation and a diffusion prior.

Denoising Diffusion Restoration Models (Kawar et al., NeurIPS 2022) restores x from data
y = H x + sigma_y noise. With the SVD H = U S V^T, every coordinate of V^T x is sampled separately:

- H gives no information on the coordinate (singular value 0): the prior alone determines it.
- The data of the coordinate are noisier than the state: the prior and the data determine it.
- The data of the coordinate are less noisy than the state: the data determine it.

The prior is an unconditional network; no network is trained for the degradation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.operators import LinearOperator
from refusion.sde import NoiseSource

PredictNoise = Callable[[Tensor, int], Tensor]
"""`(xt, t) -> noise`, both (B, C, H, W) in [-1, 1] units, t in 1..T."""


@dataclass(frozen=True)
class DDRMSettings:
    """Settings of the sampler.

    Attributes:
        steps: network evaluations, 1..T.
        eta: share of new noise in coordinates whose data are missing or noisier than the state,
            0..1.
        eta_b: weight of the data in coordinates whose data are less noisy than the state, 0..1.
        floor: singular values up to this value count as 0. If the data have no noise, the inverse
            of a small singular value amplifies the rounding errors of the file. None: 0, and in
            `DDRM` the value that suits the degradation (`Problem.floor`).
        official: follow the published code where it differs from the paper. The published code
            multiplies the start state by 1 / sigma_T instead of sqrt(abar_T), does not use
            noiseless data in the last step, and takes U^T y / sigma_y for the noise in
            coordinates whose singular value is above 0 but not above the floor.
        estimate: "sample" for a random sample by DDRM, "mean" for the mean of the posterior, which
            uses no random numbers (`estimate_mean`); `eta`, `eta_b` and `official` are of samples.

    Raises:
        ConfigError: a value is out of range.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    floor: float | None = None
    official: bool = False
    estimate: Literal["sample", "mean"] = "sample"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1:
            raise ConfigError(f"steps: expected a whole number from 1, got {self.steps!r}")
        for name in ("eta", "eta_b"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0..1, got {getattr(self, name)!r}")
        if self.estimate not in ("sample", "mean"):
            raise ConfigError(f"estimate: expected 'sample' or 'mean', got {self.estimate!r}")
        if self.floor is not None and not 0 <= self.floor < math.inf:
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
    """Sample images from the posterior of y = H x + sigma_y noise (eqs. 5 to 8 of the paper).

    All noise is generated as images and transformed by V^T. The update depends on the singular
    values only, so every SVD of the same H gives the same result.

    Args:
        operator: H.
        y: data (B, *operator.data_shape), in the units of the prior's images, [-1, 1].
        sigma_y: standard deviation of the noise in y, in the same units, 0 or more.
        predict_noise: noise estimate of the prior.
        alpha_bar: abar_t of the prior's process at t = 0..T, float64 (T + 1,); 1 at t = 0.
        noises: `initial` returns the noise of x_T, `step(t, ...)` the noise of the step from t.
        settings: settings of the sampler.
        callback: is called after each step as `(done, steps)`.

    Returns:
        Images (B, C, H, W) in [-1, 1] units, not clamped, with the dtype and device of y.

    Raises:
        ConfigError: more steps than the process has, a wrong `sigma_y`, or a floor that is not
            below the largest singular value.
    """
    times = [*step_times(len(alpha_bar) - 1, settings.steps), 0]
    data = SpectralData.from_measurement(operator, y, sigma_y, settings)
    image = y.new_empty(len(y), *operator.image_shape)  # shape, dtype and device of the noise
    signal = alpha_bar.sqrt().tolist()  # sqrt(abar_t)
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt().tolist()  # noise of x_t / sqrt(abar_t)

    start = times[0]
    state = data.start_state(operator.to_spectrum(noises.initial(image)), sigma[start])
    if settings.official:
        state = state / (sigma[start] * signal[start])
    for done, (t, t_next) in enumerate(pairwise(times), start=1):
        current = operator.from_spectrum(state)  # x_t / sqrt(abar_t)
        noise = predict_noise(signal[t] * current, t).to(current)
        x0 = operator.to_spectrum(current - sigma[t] * noise)
        # The spectrum of the noise follows from that of the state, so no transform is needed; nor
        # is new noise in the last step, whose result has none.
        z = operator.to_spectrum(noises.step(t, image)) if t_next else torch.zeros_like(x0)
        state = data.next_state(x0, (state - x0) / sigma[t], z, sigma[t_next])
        if callback is not None:
            callback(done, settings.steps)
    return operator.from_spectrum(state)


def step_times(T: int, steps: int) -> list[int]:
    """Times at which the network is called, in descending order.

    If `steps` divides T, the times are T // steps apart, and they are those of the published code
    plus 1, because that code counts from 0. There are always exactly `steps` times.

    Args:
        T: number of times of the prior's process.
        steps: network evaluations, 1..T.

    Returns:
        `steps` different times in 1..T; the last one is 1.

    Raises:
        ConfigError: `steps` is out of range.

    >>> step_times(1000, 20)[:3], step_times(1000, 20)[-1], len(step_times(1000, 30))
    ([951, 901, 851], 1, 30)
    """
    if not 1 <= steps <= T:
        raise ConfigError(f"steps: expected 1..{T}, the steps of the prior, got {steps}")
    return [1 + number * T // steps for number in reversed(range(steps))]


@dataclass(frozen=True)
class SpectralData:
    """The data in spectral coordinates, and the update of the state in these coordinates.

    Attributes:
        uty: U^T y, (B, ...).
        s: singular values, 0 where they are not above the floor.
        inverse: 1 / s, and 0 where s is 0.
        has_data: bool, the coordinates where the state is updated with the data when they are
            noisier than the state.
        sigma_y: standard deviation of the noise in y.
        settings: settings of the sampler.
    """

    uty: Tensor
    s: Tensor
    inverse: Tensor
    has_data: Tensor
    sigma_y: float
    settings: DDRMSettings

    @classmethod
    def from_measurement(
        cls, operator: LinearOperator, y: Tensor, sigma_y: float, settings: DDRMSettings
    ) -> SpectralData:
        """Transform the data y, (B, *operator.data_shape), and check sigma_y and the floor."""
        if not 0 <= sigma_y < math.inf:
            raise ConfigError(f"sigma: expected a noise level from 0, got {sigma_y!r}")
        exact, floor = operator.singulars, settings.floor or 0.0
        is_above = exact > floor
        if not is_above.any():
            raise ConfigError(
                f"floor: {floor:g} is above all singular values (largest "
                f"{exact.max():.3g}), so no data would be used; use a smaller floor"
            )
        zero = torch.zeros((), dtype=exact.dtype)
        s, inverse = exact.where(is_above, zero), (1 / exact).where(is_above, zero)
        has_data = (exact > 0 if settings.official else is_above).to(y.device)
        uty = operator.data_to_spectrum(y)
        return cls(uty, s.to(y), inverse.to(y), has_data, sigma_y, settings)

    def weight(self, level: float) -> Tensor:
        """Weight of the data in the mean with a denoised state, 0..1; see `estimate_mean`.

        Args:
            level: standard deviation of the noise of the state.
        """
        precision = (self.s * level).square()
        total = precision + self.sigma_y**2
        return (precision / total).where(total > 0, torch.zeros_like(total))

    def start_state(self, z: Tensor, sigma: float) -> Tensor:
        """Spectrum of x_T / sqrt(abar_T) (eq. 6).

        Args:
            z: spectrum of standard normal noise, (B, ...).
            sigma: standard deviation of the noise of the result.
        """
        from_data = self.uty * self.inverse + self._remaining_std(sigma, 1.0) * z
        return from_data.where(self.s * sigma > self.sigma_y, sigma * z)

    def next_state(self, x0: Tensor, noise: Tensor, z: Tensor, sigma: float) -> Tensor:
        """Spectrum of x_t / sqrt(abar_t) at the next time t (eqs. 7 and 8).

        Args:
            x0: spectrum of the estimate of x_0 from the current state, (B, ...).
            noise: spectrum of the predicted noise.
            z: spectrum of standard normal noise.
            sigma: standard deviation of the noise of the result.
        """
        eta, eta_b = self.settings.eta, self.settings.eta_b
        new_noise, old_share = eta * sigma * z, math.sqrt(1 - eta**2) * sigma
        # (a) There are no data: DDIM step of the prior.
        result = x0 + old_share * noise + new_noise
        state_std = self.s * sigma  # noise of the next state in the units of the data
        if self.sigma_y > 0:
            # (b) The data are noisier than the next state.
            residual = (self.uty - self.s * x0) / self.sigma_y
            is_noisier = self.has_data & (state_std < self.sigma_y)
            result = (x0 + old_share * residual + new_noise).where(is_noisier, result)
        # (c) The data are less noisy than the next state, or equally noisy. In the last step with
        # noiseless data both values are 0; the paper's ">=" makes the result agree with the data.
        is_better = (
            state_std > self.sigma_y if self.settings.official else state_std >= self.sigma_y
        )
        from_data = (1 - eta_b) * x0 + eta_b * self.uty * self.inverse
        from_data = from_data + self._remaining_std(sigma, eta_b) * z
        return from_data.where((self.s > 0) & is_better, result)

    def _remaining_std(self, sigma: float, weight: float) -> Tensor:
        """Standard deviation of the noise to add to data with this weight, for a total of sigma."""
        return (sigma**2 - (weight * self.sigma_y * self.inverse) ** 2).clamp(min=0).sqrt()
