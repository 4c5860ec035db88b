"""IRSDE: closed forms of the mean-reverting SDE from a clean image x0 to a degraded image mu.

    dx = theta_t (mu - x) dt + sigma_t dw,   sigma_t^2 = 2 lam^2 theta_t

Time is an index t = 0..T. Theta_t is the integral of theta from 0 to t (`theta_bar`), and
alpha_t = e^{-Theta_t}. Every formula depends on Theta only, so a step may go from any time a to any
b < a. Theta is linear between two indices, because theta is constant there: times may be fractions.
Variants (`DenoisingSDE`, `GOUB`, `UniDB`) override `signal` and `std`, the two coefficients of a
state: x_t = mu + signal_t (x0 - mu) + std_t noise.
Coefficients are float64 on the CPU. `expand_like` casts them to the dtype of the image.
Source: IR-SDE (Luo et al., ICML 2023); formulas of a step a -> b: docs/math.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Annotated

import torch
from torch import Tensor

from refusion.errors import ConfigError, short, suggest
from refusion.hints import MOST_STEPS, Bound, NumberOfSteps, Share
from refusion.sde.schedules import THETA_SCHEDULES

Time = int | float | Tensor
"""A time index 0..T, whole or fractional: one number, or a tensor (B,) with one per image."""


def expand_like(coefficient: Tensor, x: Tensor) -> float | Tensor:
    """Give a coefficient the shape, dtype and device to multiply an image batch.

    This is the only place where coefficients leave float64.

    Args:
        coefficient: float64 on the CPU, shape () or (B,).
        x: image batch (B, ...), any device and float dtype.

    Returns:
        A Python float for (), else a tensor (B, 1, ...) with the dtype and device of x.
    """
    if coefficient.ndim == 0:
        return coefficient.item()
    # A copy that blocks would wait for all that the GPU has to do.
    return coefficient.reshape(-1, *[1] * (x.ndim - 1)).to(x, non_blocking=True)


@dataclass(frozen=True)
class IRSDE:
    """Coefficients and closed forms of the mean-reverting SDE; contains no network and no RNG.

    In all methods `x0` is the clean image, `mu` the degraded image, `xt` the state at time `t` and
    `noise` the standard normal noise in xt. They are (B, C, H, W), and images have [0, 1] units;
    results have the same shape. A time `t`, `a` or `b` is a number in 0..T, or a tensor (B,) with
    one time per image. A quotient is set to 0 where its divisor, the signal or the standard
    deviation of a state, is 0.

    Attributes:
        max_sigma: stationary standard deviation in 8-bit levels, >= 1: 50 means 50/255 of full
            scale. The equations use it as `lam` in [0, 1] units.
        T: number of steps, >= 1.
        schedule: key of `THETA_SCHEDULES`.
        eps: share of x0 - mu that remains at time T, e^{-Theta_T}; between 0 and 1.

    Raises:
        ConfigError: a value is outside its range or the schedule is unknown.
    """

    max_sigma: Annotated[float, Bound(0, 10_000)]
    T: NumberOfSteps = 100
    schedule: str = "cosine"
    eps: Share = 0.005

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_sigma", "eps"):
            value = getattr(self, name)
            if not isinstance(value, Real) or isinstance(value, bool):
                raise ConfigError(f"{name}: expected a number, got {short(value)}")
        if not 1 <= self.max_sigma < math.inf:
            raise ConfigError(
                f"max_sigma: expected 8-bit levels >= 1, got {self.max_sigma!r}; for a standard "
                f"deviation of {self.max_sigma!r} of full scale write {255 * self.max_sigma:g}"
            )
        is_count = isinstance(self.T, int) and not isinstance(self.T, bool)
        if not is_count or not 1 <= self.T <= MOST_STEPS:
            raise ConfigError(
                f"T: expected a whole number of steps from 1 to {MOST_STEPS}, got {short(self.T)}"
            )
        if not 0 < self.eps < 1:
            raise ConfigError(f"eps: expected a number between 0 and 1, got {self.eps!r}")
        if not isinstance(self.schedule, str) or self.schedule not in THETA_SCHEDULES:
            hint = suggest(str(self.schedule), THETA_SCHEDULES)
            raise ConfigError(f"schedule: unknown theta schedule {short(self.schedule)}{hint}")

    @property
    def lam(self) -> float:
        """Stationary standard deviation in [0, 1] units: max_sigma / 255."""
        return self.max_sigma / 255

    @cached_property
    def theta(self) -> Tensor:
        """theta_0..theta_T of the schedule, (T + 1,) float64; `dt` contains the scale of time."""
        return THETA_SCHEDULES[self.schedule](self.T)

    @cached_property
    def dt(self) -> float:
        """Length of one step, chosen so that Theta_T = -ln(eps)."""
        return -math.log(self.eps) / self.theta[1:].sum().item()

    @cached_property
    def theta_bar(self) -> Tensor:
        """Theta_0..Theta_T, the integral of theta from time 0; (T + 1,) float64."""
        return (self.theta.cumsum(0) - self.theta[0]) * self.dt

    @cached_property
    def sigma(self) -> Tensor:
        """Diffusion sigma_t = lam sqrt(2 theta_t), (T + 1,) float64."""
        return self.lam * (2 * self.theta).sqrt()

    def alpha(self, t: Time) -> Tensor:
        """alpha_t = e^{-Theta_t}; float64, () or (B,)."""
        return torch.exp(-self._theta_bar_at(t))

    def std(self, t: Time) -> Tensor:
        """Standard deviation sqrt(v_t) of x_t given x0; float64, () or (B,)."""
        # Variance v_t = lam^2 (1 - e^{-2 Theta_t}) (IR-SDE, Prop. 3.1); expm1 keeps small t exact.
        return self.lam * torch.sqrt(-torch.expm1(-2 * self._theta_bar_at(t)))

    def signal(self, t: Time) -> Tensor:
        """Factor of x0 - mu in the mean of x_t; alpha_t for `IRSDE`; float64, () or (B,)."""
        return self.alpha(t)

    def log_snr(self, t: Time) -> Tensor:
        """Half the log signal-to-noise ratio, ln(signal_t / std_t); float64, () or (B,).

        Infinity at time 0; minus infinity where x_t is mu.
        """
        signal = self.signal(t)
        return torch.where(signal > 0, torch.log(signal) - torch.log(self.std(t)), -torch.inf)

    def is_bridge_end(self, t: Time) -> bool:
        """Whether t is the end of a bridge, where x_t is mu or nearly mu."""
        return self.signal(t).item() == 0

    def time_at(self, theta_bar: float) -> float:
        """The time t where Theta_t = `theta_bar`, for `theta_bar` in 0..Theta_T."""
        right = int(torch.searchsorted(self.theta_bar[1:-1], theta_bar)) + 1
        low, high = self.theta_bar[right - 1].item(), self.theta_bar[right].item()
        return right - 1 + min(1.0, (theta_bar - low) / (high - low))

    def initial_std(self, start: Time | None = None) -> float:
        """Standard deviation of the noise in the start state of the reverse process.

        Args:
            start: time of the start state; None is T.

        Returns:
            lam for None, as published; otherwise std(start), [0, 1] units.
        """
        return self.lam if start is None else self.std(start).item()

    def initial_state(self, mu: Tensor, noise: Tensor, start: Time | None = None) -> Tensor:
        """Start state of the reverse process: mu + initial_std(start) noise.

        Args:
            mu: degraded image, (B, C, H, W).
            noise: standard normal, the same shape.
            start: time of the state; None is T.
        """
        return mu + self.initial_std(start) * noise

    def marginal_mean(self, x0: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Mean m_t of x_t given x0: mu + (x0 - mu) e^{-Theta_t} (IR-SDE, Prop. 3.1)."""
        return mu + expand_like(self.signal(t), x0) * (x0 - mu)

    def sample_marginal(self, x0: Tensor, mu: Tensor, t: Time, noise: Tensor) -> Tensor:
        """State x_t = m_t + sqrt(v_t) noise, for standard normal `noise` (B, C, H, W)."""
        return self.marginal_mean(x0, mu, t) + expand_like(self.std(t), x0) * noise

    def noise_from_x0(self, xt: Tensor, x0: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The noise with xt = m_t(x0) + sqrt(v_t) noise; t > 0."""
        return (xt - self.marginal_mean(x0, mu, t)) / expand_like(_or_inf(self.std(t)), xt)

    def x0_from_noise(self, xt: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Inverse of `noise_from_x0`; at T it divides by eps, which amplifies errors of `noise`."""
        residual = xt - mu - expand_like(self.std(t), xt) * noise
        return mu + residual / expand_like(_or_inf(self.signal(t)), xt)

    def score_from_noise(self, noise: Tensor, t: Time) -> Tensor:
        """Score of p(x_t | x0): -noise / sqrt(v_t), not -noise / v_t (docs/math.md); t > 0."""
        return -noise / expand_like(_or_inf(self.std(t)), noise)

    def noise_from_score(self, score: Tensor, t: Time) -> Tensor:
        """Inverse of `score_from_noise`."""
        return -score * expand_like(self.std(t), score)

    def velocity_from_noise(self, x0: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Velocity c_t lam noise - d_t (x0 - mu), whose scale is that of images at every t.

        Rotate the pair (x0 - mu, lam noise) by the angle with cosine c_t and sine d_t. The first
        coordinate of the rotated pair, times a length r_t, is x_t - mu; the second is the velocity.
        For `IRSDE` c_t = alpha_t, d_t = sqrt(1 - alpha_t^2) and r_t = 1 (docs/math.md).
        """
        cosine, sine, _ = self._rotation(t)
        return expand_like(self.lam * cosine, x0) * noise - expand_like(sine, x0) * (x0 - mu)

    def noise_from_velocity(self, xt: Tensor, velocity: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The noise of the state xt with this velocity; its coefficients are bounded at every t."""
        cosine, sine, length = self._rotation(t)
        weight_xt = expand_like(sine / length / self.lam, xt)
        return weight_xt * (xt - mu) + expand_like(cosine / self.lam, xt) * velocity

    def x0_from_velocity(self, xt: Tensor, velocity: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The x0 of the state xt with this velocity; its coefficients are bounded at every t."""
        cosine, sine, length = self._rotation(t)
        return mu + expand_like(cosine / length, xt) * (xt - mu) - expand_like(sine, xt) * velocity

    def reverse_sde_mean(
        self, xt: Tensor, mu: Tensor, score: Tensor, t: Time, to: Time | None = None
    ) -> Tensor:
        """Euler step of the reverse SDE without its random term.

        Args:
            xt: state at time t.
            mu: degraded image.
            score: score at (xt, t).
            t: time of the state, >= 1.
            to: time to reach, < t; None is t - 1.

        Returns:
            xt - (mu - xt) h + 2 lam^2 h score, with h = Theta_t - Theta_to (theta_t dt for one
            step, since sigma_t^2 dt = 2 lam^2 theta_t dt).
        """
        return self._reverse_drift_step(xt, mu, score, t, to, score_share=1.0)

    def reverse_ode_mean(
        self, xt: Tensor, mu: Tensor, score: Tensor, t: Time, to: Time | None = None
    ) -> Tensor:
        """Euler step of the probability-flow ODE: `reverse_sde_mean` with half the score term."""
        return self._reverse_drift_step(xt, mu, score, t, to, score_share=0.5)

    def reverse_sde_std(self, t: Time, to: Time | None = None) -> Tensor:
        """Standard deviation of the random term of an Euler step of the reverse SDE.

        Args:
            t: time of the state, >= 1.
            to: time to reach, < t; None is t - 1.

        Returns:
            lam sqrt(2 (Theta_t - Theta_to)), float64, () or (B,).
        """
        return self.lam * torch.sqrt(2 * self._theta_integral(t, to))

    def posterior(
        self, xt: Tensor, x0: Tensor, mu: Tensor, a: Time, b: Time
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_b given x_a = xt and x0, for any 0 <= b < a.

        With b = 0 the result is exactly (x0, 0). Source: IR-SDE, Prop. 3.2 for b = a - 1; for
        other b from Bayes' rule with the Gaussian transition b -> a.

        Args:
            xt: state at time a.
            x0: clean image, or its estimate.
            mu: degraded image.
            a: time of the state.
            b: time to reach.

        Returns:
            mean (B, C, H, W) = mu + sinh(Theta_b)/sinh(Theta_a) (xt - mu)
            + sinh(Theta_a - Theta_b)/sinh(Theta_a) (x0 - mu); std float64, () or (B,).
        """
        at_a, at_b = self._theta_bar_at(a), self._theta_bar_at(b)
        weight_xt = expand_like(torch.sinh(at_b) / torch.sinh(at_a), xt)
        weight_x0 = expand_like(torch.sinh(at_a - at_b) / torch.sinh(at_a), xt)
        # One weight for mu, so that b = 0 returns x0 bit for bit.
        mean = weight_xt * xt + weight_x0 * x0 + (1 - weight_xt - weight_x0) * mu
        share = torch.expm1(-2 * (at_a - at_b)) * torch.expm1(-2 * at_b) / -torch.expm1(-2 * at_a)
        return mean, self.lam * torch.sqrt(share)

    def optimum_mean(self, xt: Tensor, x0: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The most likely x_{t-1} given x_t and x0: the posterior mean; t >= 1 (Prop. 3.2)."""
        return self.posterior(xt, x0, mu, t, t - 1)[0]

    def _theta_bar_at(self, t: Time) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64, device="cpu")
        if not bool(((time >= 0) & (time <= self.T)).all()):
            raise ValueError(f"t: expected times in 0..{self.T}, got {t}")
        whole = time.floor()
        low, high = (self.theta_bar[index.long()] for index in (whole, time.ceil()))
        return low + (time - whole) * (high - low)

    def _rotation(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """c_t, d_t and r_t of `velocity_from_noise`; 0, 1 and infinity where r_t is 0."""
        signal, std = self.signal(t), self.std(t) / self.lam
        length = torch.hypot(signal, std)
        divisor = _or_inf(length)
        return signal / divisor, torch.where(length > 0, std / divisor, 1.0), divisor

    def _theta_integral(self, t: Time, to: Time | None) -> Tensor:
        """Theta_t - Theta_to; None is t - 1."""
        return self._theta_bar_at(t) - self._theta_bar_at(t - 1 if to is None else to)

    def _reversion_integral(self, t: Time, to: Time | None) -> Tensor:
        """Integral from `to` to t of the factor of mu - x in the forward drift."""
        return self._theta_integral(t, to)

    def _reverse_drift_step(
        self,
        xt: Tensor,
        mu: Tensor,
        score: Tensor,
        t: Time,
        to: Time | None,
        score_share: float,
    ) -> Tensor:
        weight_score = expand_like(2 * score_share * self.lam**2 * self._theta_integral(t, to), xt)
        reversion = expand_like(self._reversion_integral(t, to), xt)
        return xt - reversion * (mu - xt) + weight_score * score


def _or_inf(divisor: Tensor) -> Tensor:
    """The divisor, but infinity where it is 0, so that the quotient becomes 0."""
    return torch.where(divisor > 0, divisor, torch.inf)
