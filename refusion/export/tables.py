"""Tables of the coefficients of samplers, so that a runtime needs no mathematics of processes.

Every step of every sampler is linear in its images: the next state is a sum of the last states,
the outputs of the network, the degraded image and noise, each times a number. These numbers are
read off the sampler itself: it runs on the unit vectors of these images in place of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from refusion.sde import IRSDE, DenoisingSDE, Sampler, SolverState, estimate

_DECIMALS = 12  # of factors, which a runtime uses in float32
_BISECTIONS = 60  # of noise levels: to the last bit of a float64


@dataclass(frozen=True)
class StepTable:
    """The steps of a sampler as sums of images.

    Attributes:
        columns: names of the images: 'mu', 'noise', and 'state0', 'output0' of the newest call of
            the network, 'state1', 'output1' of the one before, and so on.
        times: time of each step, which the network gets.
        rows: factors of the images for each step, in the order of `columns`.
    """

    columns: tuple[str, ...]
    times: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]


def step_table(
    sde: IRSDE, prediction: str, sampler: Sampler, steps: int, start: int | None = None
) -> StepTable:
    """The coefficients of a sampler.

    Args:
        sde: the process.
        prediction: key of `refusion.sde.PREDICTIONS`, one whose estimate is linear in the output.
        sampler: the sampler.
        steps: number of steps.
        start: time of the start state; None for the end of the process.

    Raises:
        ConfigError: steps or start are out of range, or the sampler does not suit the process.
    """
    columns = ["mu", "noise"]
    columns += [f"{kind}{age}" for age in range(sampler.memory) for kind in ("state", "output")]
    unit = dict(zip(columns, torch.eye(len(columns), dtype=torch.float64), strict=True))
    unit = {name: vector.view(1, -1, 1, 1) for name, vector in unit.items()}
    times = sampler.times(sde, steps, start)
    rows = []
    for number, (_, b) in enumerate(pairwise(times)):
        newest = times[max(0, number + 1 - sampler.memory) : number + 1][::-1]
        states = [_state(sde, prediction, unit, age, a) for age, a in enumerate(newest)]
        noise = _UnitNoise(unit["noise"])
        row = sampler.step(sde, states, unit["state0"], unit["mu"], b, noise)
        rows.append(row.flatten().tolist())
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    return StepTable(
        tuple(columns[index] for index in used),
        tuple(times[:-1]),
        tuple(tuple(row[index] for index in used) for row in rows),
    )


def noise_limits(sde: DenoisingSDE) -> list[float]:
    """Noise levels between the start times of denoising.

    Args:
        sde: the process.

    Returns:
        T - 1 levels in [0, 1] units, increasing: a photo whose noise level is above the first n of
        them starts at time n + 1.
    """
    times = torch.arange(1, sde.T)
    low, high = torch.zeros(sde.T - 1, dtype=torch.float64), torch.full((sde.T - 1,), sde.lam)
    high = high.double()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_above = sde.nearest_times(middle) > times
        low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
    return low.tolist()


def as_json(table: StepTable) -> dict[str, Any]:
    """The table as JSON values, rounded: the last bits differ between processors."""
    rows = [[round(factor, _DECIMALS) for factor in row] for row in table.rows]
    return {"columns": table.columns, "times": table.times, "rows": rows}


@dataclass(frozen=True)
class _UnitNoise:
    """Noise source of which every field is the unit vector of noise."""

    unit: Tensor

    def initial(self, like: Tensor) -> Tensor:
        return self.unit

    def step(self, t: float, like: Tensor) -> Tensor:
        return self.unit


def _state(sde: IRSDE, prediction: str, unit: dict[str, Tensor], age: int, t: float) -> SolverState:
    images = unit[f"output{age}"], unit[f"state{age}"], unit["mu"]
    return SolverState(t, estimate(sde, prediction, *images, t))


def table_for_starts(
    sde: IRSDE, prediction: str, sampler: Sampler, steps: int, starts: Sequence[int]
) -> list[StepTable]:
    """A table for each start time; a start t allows t steps at most."""
    return [step_table(sde, prediction, sampler, min(steps, t), t) for t in starts]
