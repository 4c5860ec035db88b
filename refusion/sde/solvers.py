"""Exponential-integrator solvers: one kernel for all orders, between ODE and SDE.

With l = ln(signal / std) as clock and y = x - mu, the reverse SDE whose random term is eta times
the full one (eta 0: the probability-flow ODE, 1: the reverse SDE) is, in either of two forms,

    d(y/std)    = -eta^2 (y/std) dl + (1 + eta^2) e^l (x0 - mu) dl + eta sqrt(2) dw
    d(y/signal) = -(1 + eta^2) e^{-l} noise dl + eta sqrt(2) e^{-l} dw

All but the estimate (of x0, or of the noise) is solved exactly; the estimate is replaced by the
polynomial in l through its values at the last `order` times (Adams-Bashforth).
Source: MaRS / MR-Sampler (Li et al., ICLR 2025), orders 1 and 2; derivation, and why order 3 here
is not that of the released code: docs/math.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from refusion.errors import ConfigError
from refusion.sde.irsde import IRSDE
from refusion.sde.noise import NoiseSource
from refusion.sde.samplers import SolverState

ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class _Point:
    """The process at one time."""

    signal: float
    std: float
    log_snr: float

    @classmethod
    def of(cls, sde: IRSDE, t: float) -> _Point:
        return cls(sde.signal(t).item(), sde.std(t).item(), sde.log_snr(t).item())


@dataclass(frozen=True)
class SolverStep:
    """One step a -> b of the family.

    Attributes:
        form: which estimate is taken for a polynomial. "data" is stable; "noise" diverges for
            eta > 0 and few steps.
        order: number of estimates that the polynomial goes through, 1..3; fewer where fewer are
            known.
        eta: share of the random term, 0..1.

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
        """State at b; at b = 0 the estimate of x0, which is the exact step of order 1."""
        now = states[0]
        if b == 0:
            return now.estimate.x0
        start, end = _Point.of(sde, now.t), _Point.of(sde, b)
        form, states = self.form, states[: self.order]
        if math.isinf(start.log_snr):  # a bridge at T: no state, no noise, only what x0 is thought
            form, states = "data", states[:1]
        coefficients = _data if form == "data" else _noise
        onto_xt, onto_estimate, rate, spread = coefficients(start, end, self.eta)
        known = [sde.log_snr(state.t).item() for state in states]
        values = [_value(form, state, mu) for state in states]
        terms = _polynomial(known, values)
        weights = _integrals(rate, end.log_snr - start.log_snr, len(terms))
        x = mu + onto_xt * (xt - mu)
        for weight, term in zip(weights, terms, strict=True):
            x = x + onto_estimate * weight * term
        return x if spread == 0 else x + spread * noise.step(now.t, xt)


def _value(form: str, state: SolverState, mu: Tensor) -> Tensor:
    return state.estimate.x0 - mu if form == "data" else state.estimate.noise


def _data(a: _Point, b: _Point, eta: float) -> tuple[float, float, float, float]:
    """Factors of x - mu and of the integrals over the x0 estimate, their rate, and the spread."""
    drawn = eta**2 and 2 * eta**2 * (b.log_snr - a.log_snr)  # not 0 times infinity
    onto_xt = b.std / a.std * math.exp(-drawn / 2) if a.std else 0.0
    return onto_xt, (1 + eta**2) * b.signal, 1 + eta**2, b.std * math.sqrt(-math.expm1(-drawn))


def _noise(a: _Point, b: _Point, eta: float) -> tuple[float, float, float, float]:
    """As `_data`, over the noise estimate."""
    spread = eta * b.std * math.sqrt(math.expm1(2 * (b.log_snr - a.log_snr)))
    return b.signal / a.signal, -(1 + eta**2) * b.std, -1.0, spread


def _polynomial(at: Sequence[float], values: Sequence[Tensor]) -> list[Tensor]:
    """Coefficients in powers of u of the polynomial through values[i] at u = at[i] - at[0].

    A value at minus infinity counts for nothing.
    """
    if len(values) == 1:
        return list(values)
    last = at[0] - at[1]
    slope = (values[0] - values[1]) / last
    if len(values) == 2:
        return [values[0], slope]
    before = (values[1] - values[2]) / (at[1] - at[2])
    # Newton's form: value + slope u + bend u (u + last).
    bend = (slope - before) / (at[0] - at[2])
    return [values[0], slope + bend * last, bend]


def _integrals(rate: float, h: float, count: int) -> list[float]:
    """Integrals of e^{-rate (h - u)} u^j over u = 0..h, for j = 0..count - 1."""
    found = [-math.expm1(-rate * h) / rate]
    for power in range(1, count):
        found.append((h**power - power * found[-1]) / rate)
    return found
