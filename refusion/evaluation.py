"""How good a restorer is: whole photos at full size, measured beside the photos it was given.

The one place that does so for any `Restorer` and any dataset of `{"lq", "gt", "name"}`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

from refusion.errors import ConfigError, ImageError
from refusion.inference.memory import is_out_of_memory
from refusion.inference.resize import beside
from refusion.metrics import METRICS, Metric, score_pair
from refusion.restorers.base import Known, Restorer

RANK_BY = "psnr"
_DECIMALS = {"psnr": 2}  # decibels; similarities get _FINE
_FINE = 4


class Photos(Protocol):
    """A finite dataset of whole photos, indexed from 0.

    Items hold "lq" float32 (3, H, W) in [0, 1] and, where there is one, the ground truth "gt", as
    large or larger by the restorer's scale, a "name", and what `Known` tells the restorer.
    """

    def __len__(self) -> int:
        """Number of photos."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One photo."""


@dataclass(frozen=True)
class Score:
    """One photo, or the mean over photos.

    Attributes:
        name: of the photo.
        seconds: time to restore it, reading and measuring not counted.
        input: metrics of the degraded photo by name; empty without ground truth.
        result: metrics of the restored photo.
    """

    name: str
    seconds: float
    input: dict[str, float] = field(default_factory=dict)
    result: dict[str, float] = field(default_factory=dict)

    @property
    def difference(self) -> dict[str, float]:
        """Result minus input by metric; nan where both are infinite."""
        return {name: value - self.input[name] for name, value in self.result.items()}

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON, which has no infinity: the PSNR of equal images becomes null."""
        parts = {"input": self.input, "result": self.result, "difference": self.difference}
        return {"name": self.name, "seconds": round(self.seconds, 3)} | {
            part: {name: value if math.isfinite(value) else None for name, value in values.items()}
            for part, values in parts.items()
            if values
        }


Scored = Callable[[int, int, Score, Tensor], None]
"""Called as `(done, total, score, restored)`; `restored` is float32 (3, H, W) in [0, 1]."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of photos, at least one, in the order of the dataset."""

    rows: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        """Mean of each column, metrics over the photos that have a ground truth."""
        return Score(
            "mean",
            statistics.fmean(row.seconds for row in self.rows),
            _means(row.input for row in self.rows),
            _means(row.result for row in self.rows),
        )

    @property
    def worst(self) -> Score | None:
        """Photo with the lowest PSNR of the result; None where none was measured."""
        return min(self._ranked(), key=_rank, default=None)

    @property
    def best(self) -> Score | None:
        """Photo with the highest PSNR of the result; None where none was measured."""
        return max(self._ranked(), key=_rank, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every photo, the mean, the names of the worst and the best."""
        named = {"worst": self.worst, "best": self.best}
        return {"images": [row.to_dict() for row in self.rows], "mean": self.mean.to_dict()} | {
            role: row.name for role, row in named.items() if row is not None
        }

    def table(self) -> str:
        """Text to read: a line for each photo, then mean, worst and best."""
        mean = self.mean
        ends = {f"mean of {len(self.rows)}": mean, "worst": self.worst, "best": self.best}
        labels = [row.name for row in self.rows]
        labels += [
            label if row is mean else f"{label}: {row.name}" for label, row in ends.items() if row
        ]
        rows = [*self.rows, *filter(None, ends.values())]
        head = [f"{part} {name}" for part in ("input", "result", "gain") for name in mean.result]
        grid = [["image", *head, "seconds"]]
        grid += [
            [label, *_cells(row, mean.result)] for label, row in zip(labels, rows, strict=True)
        ]
        lines = _aligned(grid)
        rule = "-" * max(map(len, lines))
        count = len(self.rows) + 1
        return "\n".join([lines[0], rule, *lines[1:count], rule, *lines[count:]])

    def _ranked(self) -> list[Score]:
        return [row for row in self.rows if RANK_BY in row.result]


def evaluate(
    restorer: Restorer,
    dataset: Photos,
    *,
    metrics: Mapping[str, Metric] = METRICS,
    steps: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
    tile: int | Literal["auto"] | None = "auto",
    limit: int | None = None,
    callback: Scored | None = None,
) -> Evaluation:
    """Restore every photo of a dataset and measure the results against the ground truth.

    Photos are restored one by one, each with the same seed, so no number depends on the others or
    on the order. Without ground truth there are times only.

    Args:
        restorer: what restores.
        dataset: whole photos.
        metrics: what to measure, by name.
        steps: see `Restorer.restore`, as the next three.
        sampler: word of `SAMPLERS`.
        seed: of the noise.
        tile: side of the tiles in pixels.
        limit: only so many photos, the first ones; None for all.
        callback: told of each photo, with the restored picture.

    Raises:
        ConfigError: an option is wrong, or the dataset is empty or endless.
        ImageError: a photo cannot be read, restored in the memory there is, or compared.
        RefusionError: the network gave no finite result.
    """
    total = _count(dataset, limit)
    rows = []
    for index in range(total):
        item = dataset[index]
        name, lq = str(item.get("name", index)), item["lq"][None]
        start = time.perf_counter()
        try:
            restored = restorer.restore(
                lq, steps=steps, sampler=sampler, seed=seed, tile=tile, known=Known.of(item)
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ImageError(f"{name}: not enough memory to restore it; try --tile 256") from error
        seconds = time.perf_counter() - start
        rows.append(_score(name, seconds, restored, item, metrics))
        if callback is not None:
            callback(index + 1, total, rows[-1], restored[0])
    return Evaluation(tuple(rows))


def _count(dataset: Photos, limit: int | None) -> int:
    try:
        available = len(dataset)
    except TypeError:  # what an endless stream answers
        raise ConfigError(
            f"{type(dataset).__name__} is endless and cannot be evaluated: set 'whole: true' "
            "(SyntheticPairs), remove 'patch' (PairedFolder), or set 'length'"
        ) from None
    count = available if limit is None else min(limit, available)
    if count < 1:
        raise ConfigError(f"no photos to evaluate: {available} in the dataset, limit {limit}")
    return count


def _score(
    name: str,
    seconds: float,
    restored: Tensor,
    item: Mapping[str, Any],
    metrics: Mapping[str, Metric],
) -> Score:
    if "gt" not in item:
        return Score(name, seconds)
    gt = item["gt"][None]
    try:
        lq = beside(item["lq"][None], gt)
        degraded, result = (score_pair(x, gt, metrics) for x in (lq, restored))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    return Score(name, seconds, degraded, result)


def _rank(row: Score) -> float:
    return row.result[RANK_BY]


def _means(columns: Iterable[dict[str, float]]) -> dict[str, float]:
    measured = [values for values in columns if values]
    names = measured[0] if measured else ()
    return {name: statistics.fmean(values[name] for values in measured) for name in names}


def _cells(row: Score, names: Iterable[str]) -> list[str]:
    cells = [
        f"{values[name]:{sign}.{_DECIMALS.get(name, _FINE)}f}" if name in values else "-"
        for values, sign in ((row.input, "-"), (row.result, "-"), (row.difference, "+"))
        for name in names
    ]
    return [*cells, f"{row.seconds:.2f}"]


def _aligned(grid: list[list[str]]) -> list[str]:
    """Lines of columns two blanks apart: the first aligned left, the numbers right."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return [
        "  ".join(
            [first.ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        )
        for first, *cells in grid
    ]
