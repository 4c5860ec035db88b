"""Scores of a restorer: whole photos are restored at full size and measured against ground truth.

The degraded photos are measured, too. Works with any `Restorer` and any dataset whose items are
`{"lq", "gt", "name"}`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError, ImageError, printable, short
from refusion.evaluation.photos import Photos, as_photo_batch, count_photos, photo_at
from refusion.images.resize import resize_like
from refusion.memory import is_out_of_memory, out_of_memory_text
from refusion.metrics import METRICS, Metric, score_pair
from refusion.restorers.base import Conditions, Restorer

RANK_BY = "psnr"
SHOWN = ("psnr", "ssim")  # metrics shown for every photo; of the others only the mean is shown
_NAME = 200  # characters of a file name in a table
_DECIMALS = {"psnr": 2, "psnr_y": 2}  # decibels
_DEFAULT_DECIMALS = 4  # of all other metrics


@dataclass(frozen=True)
class Score:
    """Metrics and times of one photo, or their means over photos.

    Attributes:
        name: of the photo.
        seconds: time to restore the photo, without reading, writing and measuring.
        input: metrics of the degraded photo by name; without ground truth only the no-reference
            metrics.
        result: the same metrics of the restored photo.
        baselines: the same metrics of other methods, by the name of the method.
        io_seconds: time to read the photo and its ground truth and to write the result. A photo
            that was read before comes from the cache of decoded photos.
    """

    name: str
    seconds: float
    input: dict[str, float] = field(default_factory=dict)
    result: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    io_seconds: float = 0.0

    @property
    def methods(self) -> dict[str, dict[str, float]]:
        """Metrics of the input, of each baseline and of the result, in this order."""
        return {"input": self.input, **self.baselines, "result": self.result}

    @property
    def difference(self) -> dict[str, float]:
        """Result minus input by metric; nan if both are infinite."""
        return {name: value - self.input[name] for name, value in self.result.items()}

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON. The PSNR of equal images is infinite, which JSON lacks: it is null."""
        parts = self.methods | {"difference": self.difference}
        times = {"seconds": round(self.seconds, 3), "io_seconds": round(self.io_seconds, 3)}
        return {"name": self.name, **times} | {
            part: {name: value if math.isfinite(value) else None for name, value in values.items()}
            for part, values in parts.items()
            if values
        }


Scored = Callable[[int, int, Score], None]
"""Called as `(done, total, score)`."""
Baseline = Callable[[Tensor, Conditions], Tensor]
"""Another method: `(photos (1, 3, H, W) in [0, 1], conditions) -> restored photos`."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one or more photos, in the order of the dataset."""

    rows: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        """Means over the photos; of each metric, over the photos on which it was measured."""
        return Score(
            "mean",
            statistics.fmean(row.seconds for row in self.rows),
            _means(row.input for row in self.rows),
            _means(row.result for row in self.rows),
            {
                name: _means(row.baselines.get(name, {}) for row in self.rows)
                for name in dict.fromkeys(key for row in self.rows for key in row.baselines)
            },
            statistics.fmean(row.io_seconds for row in self.rows),
        )

    @property
    def worst(self) -> Score | None:
        """Photo with the lowest PSNR of the result; None if PSNR was not measured."""
        return min(self._ranked(), key=_rank, default=None)

    @property
    def best(self) -> Score | None:
        """Photo with the highest PSNR of the result; None if PSNR was not measured."""
        return max(self._ranked(), key=_rank, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every photo, the mean, and the names of the worst and the best."""
        named = {"worst": self.worst, "best": self.best}
        return {"images": [row.to_dict() for row in self.rows], "mean": self.mean.to_dict()} | {
            role: row.name for role, row in named.items() if row is not None
        }

    def table(self) -> str:
        """Text: a line for each photo, then lines for the mean, the worst and the best."""
        mean = self.mean
        ends = {f"mean of {len(self.rows)}": mean, "worst": self.worst, "best": self.best}
        labels = [printable(row.name, _NAME) for row in self.rows]
        labels += [
            label if row is mean else f"{label}: {printable(row.name, _NAME)}"
            for label, row in ends.items()
            if row
        ]
        rows = [*self.rows, *filter(None, ends.values())]
        shown = [name for name in mean.result if name in SHOWN] or list(mean.result)
        # Without PSNR the first metric may be one such as NIQE, where a lower value is better.
        change = "gain" if shown[:1] == list(SHOWN[:1]) else "change"
        head = [f"{part} {name}" for part in ("input", "result", change) for name in shown]
        grid = [["image", *head, "seconds"]]
        grid += [[label, *_cells(row, shown)] for label, row in zip(labels, rows, strict=True)]
        count = len(self.rows) + 1
        return _ruled(_aligned(grid), count)

    def methods_table(self, metrics: Mapping[str, Metric]) -> str:
        """Text: mean metrics of every method, how each metric is computed, and the mean times.

        Args:
            metrics: those that were measured, by name.
        """
        mean = self.mean
        names = list(mean.result)
        grid = [["mean", *names]]
        for method, values in mean.methods.items():
            grid.append([method, *(_number(name, values.get(name)) for name in names)])
        lines = [_ruled(_aligned(grid), len(grid))] if names else []
        lines += [f"{name}: {metrics[name].stated}" for name in names]
        both = mean.seconds + mean.io_seconds
        times = f"{mean.seconds:.3f} without and {both:.3f} with reading and writing"
        return "\n".join([*lines, f"seconds per photo: {times}"])

    def _ranked(self) -> list[Score]:
        return [row for row in self.rows if RANK_BY in row.result]


NO_BASELINES: Mapping[str, Baseline] = MappingProxyType({})
NO_SCORES: Mapping[int, Score] = MappingProxyType({})


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
    baselines: Mapping[str, Baseline] = NO_BASELINES,
    previous_scores: Mapping[int, Score] = NO_SCORES,
    write: Callable[[str, Tensor], None] | None = None,
    callback: Scored | None = None,
) -> Evaluation:
    """Restore every photo of a dataset and measure the results against the ground truth.

    Photos are restored one by one, each with the same seed, so the scores of a photo do not depend
    on the other photos or their order. Without ground truth only times and no-reference metrics are
    measured.

    Args:
        restorer: what restores.
        dataset: whole photos.
        metrics: what to measure, by name.
        steps: network evaluations per photo; None for the restorer's default.
        sampler: key of `refusion.sde.SAMPLERS`; None for the restorer's default.
        seed: of the noise.
        tile: side of the tiles in pixels, or 'auto'; None for no tiles.
        limit: number of photos, the first ones; None for all.
        baselines: other methods to measure, by name; they are not timed.
        previous_scores: scores from an earlier run, by index; these photos are not restored again.
        write: saves a restored photo, `(name, float32 (3, H, W) in [0, 1])`; counts as I/O.
        callback: called after each photo.

    Raises:
        ConfigError: an option is wrong, or the dataset is empty or endless.
        ImageError: a photo cannot be read or compared, or the memory does not suffice for it.
        RefusionError: the result of the network is not finite.

    >>> import torch
    >>> class Brighter:
    ...     def restore(self, lq, **options):
    ...         return lq + 0.25
    >>> photos = [{"lq": torch.zeros(3, 8, 8), "gt": torch.full((3, 8, 8), 0.5), "name": "night"}]
    >>> scores = evaluate(Brighter(), photos).mean  # 0.25 rounds to 64 of 255 levels
    >>> round(scores.input["psnr"], 2), round(scores.result["psnr"], 2)
    (6.02, 12.08)
    """
    check_arguments(evaluate, locals())
    if not hasattr(restorer, "restore"):
        raise ConfigError(f"restorer: expected one of load_restorer, got {short(restorer)}")
    total = count_photos(dataset, limit)
    options = {"steps": steps, "sampler": sampler, "seed": seed, "tile": tile}
    rows = []
    for index in range(total):
        row = previous_scores.get(index)
        if row is None:
            row = _measured(restorer, dataset, index, options, metrics, baselines, write)
        rows.append(row)
        if callback is not None:
            callback(index + 1, total, row)
    return Evaluation(tuple(rows))


def _measured(
    restorer: Restorer,
    dataset: Photos,
    index: int,
    options: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    baselines: Mapping[str, Baseline],
    write: Callable[[str, Tensor], None] | None,
) -> Score:
    """Restore and measure one photo."""
    start = time.perf_counter()
    item = photo_at(dataset, index)
    name, conditions = str(item.get("name", index)), Conditions.from_item(item)
    lq, gt = (as_photo_batch(item, key) for key in ("lq", "gt"))
    begin = time.perf_counter()
    try:
        restored = restorer.restore(lq, **options, conditions=conditions)
        end = time.perf_counter()
        if write is not None:
            write(name, restored[0])
        io_seconds = begin - start + time.perf_counter() - end
        is_measured = gt is not None or any(not one.needs_target for one in metrics.values())
        others = {
            key: baseline(lq, conditions) for key, baseline in baselines.items() if is_measured
        }
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise ImageError(f"{name}: {out_of_memory_text(error)}") from error
    images = {"input": lq if gt is None else resize_like(lq, gt), **others, "result": restored}
    try:
        scores = {key: score_pair(image, gt, metrics) for key, image in images.items()}
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    given, result = scores.pop("input"), scores.pop("result")
    return Score(name, end - begin, given, result, scores, io_seconds)


def _rank(row: Score) -> float:
    return row.result[RANK_BY]


def _means(columns: Iterable[dict[str, float]]) -> dict[str, float]:
    columns = list(columns)
    names = dict.fromkeys(name for values in columns for name in values)
    return {name: statistics.fmean(v[name] for v in columns if name in v) for name in names}


def _cells(row: Score, names: Iterable[str]) -> list[str]:
    cells = [
        _number(name, values.get(name), sign)
        for values, sign in ((row.input, "-"), (row.result, "-"), (row.difference, "+"))
        for name in names
    ]
    return [*cells, f"{row.seconds:.2f}"]


def _number(name: str, value: float | None, sign: str = "-") -> str:
    return "-" if value is None else f"{value:{sign}.{_DECIMALS.get(name, _DEFAULT_DECIMALS)}f}"


def _ruled(lines: list[str], count: int) -> str:
    """Put a rule below the first line, and below the first `count` lines if more lines follow."""
    rule = "-" * max(map(len, lines))
    rest = [rule, *lines[count:]] if lines[count:] else []
    return "\n".join([lines[0], rule, *lines[1:count], *rest])


def _aligned(grid: list[list[str]]) -> list[str]:
    """Lines of columns two spaces apart: the first column aligned left, the numbers right."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return [
        "  ".join(
            [first.ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        )
        for first, *cells in grid
    ]
