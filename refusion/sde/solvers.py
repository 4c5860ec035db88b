"""Exponential-integrator solvers of order 1 to 3 for the reverse SDE and ODE, in one formula.

The time variable is l = ln(signal / std), which increases as t decreases; y = x - mu. eta is the
share of the random term: 0 gives the probability-flow ODE, 1 the reverse SDE. The reverse process
can be written in two forms,

    d(y/std)    = -eta^2 (y/std) dl + (1 + eta^2) e^l (x0 - mu) dl + eta sqrt(2) dw     ("data")
    d(y/signal) = -(1 + eta^2) e^{-l} noise dl + eta sqrt(2) e^{-l} dw                  ("noise")

A step replaces the estimate (of x0, or of the noise) by the polynomial in l through the estimates
at the last `order` times (Adams-Bashforth). All other terms are integrated exactly.
Source: MaRS / MR-Sampler (Li et al., ICLR 2025), orders 1 and 2. docs/math.md has the derivation
and explains the difference between order 3 here and in the released code of MaRS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from refusion.errors import ConfigError
from refusion.sde.irsde import IRSDE
from refusion.sde.noise import NoiseSource
from refusion.sde.samplers import SolverState

ORDERS = (1, 2, 3)
_MIN_SPACING = 1e-3  # of two estimates in l, as a share of the next step


@dataclass(frozen=True)
class _Point:
    """Coefficients of the process at one time."""

    signal: float
    std: float
    log_snr: float

    @classmethod
    def of(cls, sde: IRSDE, t: float) -> _Point:
        return cls(sde.signal(t).item(), sde.std(t).item(), sde.log_snr(t).item())


@dataclass(frozen=True)
class SolverStep:
    """One step a -> b of a solver; see `refusion.sde.samplers.Step`.

    Attributes:
        form: the estimate that is replaced by a polynomial. "data": that of x0, stable. "noise":
            that of the noise, diverges for eta > 0 and few steps.
        order: number of estimates in the polynomial, 1..3. The first steps of a sampler have fewer
            estimates and use a lower order.
        eta: share of the random term, 0 (ODE) to 1 (SDE).

    Raises:
        ConfigError: order or eta out of range.
    """

    form: Literal["data", "noise"]
    order: int
    eta: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.order not in ORDERS:
            raise ConfigError(f"order: expected 1, 2 or 3, got {self.order!r}")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"eta: expected 0 (ODE) to 1 (SDE), got {self.eta!r}")

    def __call__(
        self,
        sde: IRSDE,
        states: Sequence[SolverState],
        xt: Tensor,
        mu: Tensor,
        b: float,
        noise: NoiseSource,
    ) -> Tensor:
        """State at b; for b = 0 the estimate of x0, which is the exact step of order 1."""
        newest = states[0]
        if b == 0:
            return newest.estimate.x0
        start, end = _Point.of(sde, newest.t), _Point.of(sde, b)
        form, states = self.form, states[: self.order]
        log_snrs = _apart([sde.log_snr(state.t).item() for state in states], end.log_snr)
        if sde.is_bridge_end(newest.t):
            # x is mu or nearly mu. The noise form divides by the signal of x, which is 0 or tiny.
            form = "data"
        coefficients = _data_coefficients if form == "data" else _noise_coefficients
        weight_xt, weight_estimate, rate, std = coefficients(start, end, self.eta)
        values = [_value(form, state, mu) for state in states[: len(log_snrs)]]
        terms = _polynomial(log_snrs, values)
        weights = _integrals(rate, end.log_snr - start.log_snr, len(terms))
        x = mu + weight_xt * (xt - mu)
        for weight, term in zip(weights, terms, strict=True):
            x = x + weight_estimate * weight * term
        return x if std == 0 else x + std * noise.step(newest.t, xt)


def _apart(log_snrs: list[float], end: float) -> list[float]:
    """The l of the newest states, up to the first two that differ by a tiny part of the step.

    The slope between these two would be a rounding error. The std of a `DenoisingSDE` with a tiny
    eps is the same number, or nearly, at several times near T.

    Args:
        log_snrs: l of the states, the newest first.
        end: l at the end of the step.
    """
    shortest = _MIN_SPACING * (end - log_snrs[0]) if math.isfinite(log_snrs[0]) else 0.0
    close = (n for n, (b, a) in enumerate(pairwise(log_snrs), start=1) if b - a <= shortest)
    return log_snrs[: next(close, len(log_snrs))]


def _value(form: str, state: SolverState, mu: Tensor) -> Tensor:
    """The estimate that the polynomial of this form goes through."""
    return state.estimate.x0 - mu if form == "data" else state.estimate.noise


def _data_coefficients(a: _Point, b: _Point, eta: float) -> tuple[float, float, float, float]:
    """Coefficients of a step of the data form.

    Returns:
        Factor of x - mu, factor of the integrals of the estimate, rate c of these integrals (see
        `_integrals`), standard deviation of the random term.
    """
    exponent = eta**2 and 2 * eta**2 * (b.log_snr - a.log_snr)  # avoids 0 times infinity
    weight_xt = b.std / a.std * math.exp(-exponent / 2) if a.std else 0.0
    std = b.std * math.sqrt(-math.expm1(-exponent))
    return weight_xt, (1 + eta**2) * b.signal, 1 + eta**2, std


def _noise_coefficients(a: _Point, b: _Point, eta: float) -> tuple[float, float, float, float]:
    """As `_data_coefficients`, for the noise form."""
    std = eta * b.std * math.sqrt(math.expm1(2 * (b.log_snr - a.log_snr)))
    return b.signal / a.signal, -(1 + eta**2) * b.std, -1.0, std


def _polynomial(at: Sequence[float], values: Sequence[Tensor]) -> list[Tensor]:
    """Coefficients in powers of u of the polynomial through values[i] at u = at[i] - at[0].

    A value at minus infinity has no influence.
    """
    if len(values) == 1:
        return list(values)
    last = at[0] - at[1]
    slope = (values[0] - values[1]) / last
    if len(values) == 2:
        return [values[0], slope]
    before = (values[1] - values[2]) / (at[1] - at[2])
    # Newton's form: value + slope u + second_difference u (u + last).
    second_difference = (slope - before) / (at[0] - at[2])
    return [values[0], slope + second_difference * last, second_difference]


def _integrals(rate: float, h: float, count: int) -> list[float]:
    """Integrals of e^{-rate (h - u)} u^j over u = 0..h, for j = 0..count - 1."""
    integrals = [-math.expm1(-rate * h) / rate]
    for power in range(1, count):
        integrals.append((h**power - power * integrals[-1]) / rate)
    return integrals
