"""Quality by the number of network calls, for every sampler, on pairs of photos.

    python -m benchmarks.steps --weights deshadow --lq SHADOW --gt CLEAR
    python -m benchmarks.steps -opt options/deshadow_small.yml      weights and validation of a run

writes tables (stdout) and a chart (`steps_<task>.png`), and prints the recommended default: the
fewest calls with a PSNR within 0.1 dB of the best. After an interruption the same command continues
from `steps_<task>.json`, which holds all numbers.

With n calls every sampler takes n steps that together go from T to 0. The released baselines use a
subset of the times but still step from t to t - 1, so their result is not a restored photo. This
program does not compare with them. Every sampler starts from the same noise. There is one table for
each of `METRICS`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.charts import COLOURS, Line, line_chart
from refusion.config import load_config
from refusion.data import DATASETS
from refusion.errors import ConfigError, RefusionError
from refusion.evaluation.scoring import Evaluation, Photos, evaluate
from refusion.files import atomic_write
from refusion.metrics import METRICS
from refusion.restorers import Restorer, load_restorer
from refusion.sde import SAMPLERS, find_sampler

CALLS = (1, 2, 3, 5, 10, 20, 50, 100)
GRIDDED = tuple(
    f"{name}@{grid}"
    for name in ("posterior", "ode-data-2", "sde-data-2")
    for grid in ("log_snr", "karras")
)
CHARTED = (
    "posterior", "mean", "ode-data-2", "ode-data-3", "sde-data-2", "ode-noise-2", "euler"
)  # fmt: skip
WITHIN = 0.1  # dB below the best PSNR
Scores = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One sampler at one number of calls.

    Attributes:
        sampler: key of `SAMPLERS`.
        calls: network evaluations per photo.
        scores: means over the photos by metric, and "seconds"; None if the sampler cannot take
            so many steps or gave no finite result.
    """

    sampler: str
    calls: int
    scores: Scores | None


def choose(cells: Iterable[Cell], within: float = WITHIN) -> Cell:
    """The cell with the fewest calls and a PSNR within `within` dB of the best PSNR.

    Among cells with the same number of calls, the one with the best PSNR is chosen.

    Raises:
        ConfigError: no cell has a PSNR.
    """
    measured = [cell for cell in cells if cell.scores is not None]
    if not measured:
        raise ConfigError("samplers: no sampler gave a result")
    best = max(cell.scores["psnr"] for cell in measured)
    good = [cell for cell in measured if cell.scores["psnr"] >= best - within]
    return min(good, key=lambda cell: (cell.calls, -cell.scores["psnr"]))


def markdown_table(cells: Sequence[Cell], metric: str) -> str:
    """Table of one metric: rows are samplers, columns are numbers of calls, the best is bold."""
    counts = sorted({cell.calls for cell in cells})
    values = {
        (cell.sampler, cell.calls): cell.scores[metric] for cell in cells if cell.scores is not None
    }
    order = max if METRICS[metric].higher_is_better else min
    best = {
        count: order((v for (_, calls), v in values.items() if calls == count), default=None)
        for count in counts
    }
    rows = [[f"{metric.upper()} by calls", *map(str, counts)], ["---"] * (len(counts) + 1)]
    for sampler in dict.fromkeys(cell.sampler for cell in cells):
        found = [values.get((sampler, count)) for count in counts]
        rows.append(
            [f"`{sampler}`"]
            + [_cell(v, metric, v == best[n]) for n, v in zip(counts, found, strict=True)]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: float | None, metric: str, is_best: bool) -> str:
    if value is None:
        return "-"
    text = f"{value:.2f}" if metric == "psnr" else f"{value:.4f}"
    return f"**{text}**" if is_best else text


def draw_chart(cells: Sequence[Cell], path: Path, task: str) -> None:
    """Chart of PSNR by calls, for the measured samplers of `CHARTED`, or else for the first."""
    names = list(dict.fromkeys(cell.sampler for cell in cells))
    chosen = [name for name in CHARTED if name in names] or names[: len(COLOURS)]
    lines = []
    for name in chosen:
        own = [cell for cell in cells if cell.sampler == name and cell.scores is not None]
        points = sorted((cell.calls, cell.scores["psnr"]) for cell in own)
        lines.append(Line(name, tuple(points)))
    title = f"{task}: PSNR by network calls"
    line_chart(path, lines, title=title, x_label="network calls", y_label="PSNR / dB", log_x=True)


class Measurements:
    """Cells that are measured once and stored in a file.

    Args:
        path: the file; created if it does not exist.
        settings: all options that the numbers depend on.

    Raises:
        ConfigError: the file holds measurements with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)
        self.cells: dict[tuple[str, int], Cell] = {}
        if path.is_file():
            plain = json.loads(path.read_text(encoding="utf-8"))
            if plain["settings"] != self.settings:
                raise ConfigError(f"{path}: measured with other settings; move it away")
            self._take(Cell(**row) for row in plain["cells"])

    def measure(
        self, restorer: Restorer, sets: Sequence[Photos], sampler: str, calls: int, **options: Any
    ) -> Cell:
        """The cell of a sampler at a number of calls; `options` are those of `evaluate`."""
        if (sampler, calls) not in self.cells:
            scores = _scores(restorer, sets, steps=calls, sampler=sampler, **options)
            self._take([Cell(sampler, calls, scores)])
            plain = {"settings": self.settings, "cells": [asdict(c) for c in self.cells.values()]}
            with atomic_write(self.path) as aside:
                aside.write_text(json.dumps(plain, indent=1), encoding="utf-8")
        return self.cells[sampler, calls]

    def _take(self, cells: Iterable[Cell]) -> None:
        self.cells |= {(cell.sampler, cell.calls): cell for cell in cells}


def _scores(restorer: Restorer, sets: Sequence[Photos], **options: Any) -> Scores | None:
    """Means over the photos of all sets, with equal weight for each photo."""
    rows = []
    for photos in sets:
        try:
            rows += evaluate(restorer, photos, **options).rows
        except RefusionError as error:
            is_about_sampler = str(error).startswith(("steps:", "start:")) or "not finite" in str(
                error
            )
            if not is_about_sampler:
                raise
            logging.getLogger(__name__).warning("%s: %s", options["sampler"], error)
            return None
    mean = Evaluation(tuple(rows)).mean
    return {**mean.result, "seconds": mean.seconds}


def photo_sets(options: argparse.Namespace, scale: int) -> list[Photos]:
    """The photos to measure: a folder of pairs, or the validation sets of an options file.

    Raises:
        ConfigError: a folder or a file is missing.
    """
    if options.opt is None:
        settings = {"lq": options.lq, "gt": options.gt, "scale": scale}
        settings |= {"lq_suffix": options.lq_suffix, "gt_suffix": options.gt_suffix}
        return [DATASETS["PairedFolder"](**settings, max_side=options.max_side)]
    config = load_config(options.opt, options.set)
    return [
        DATASETS[part.type](**part.settings, seed=config.train.seed)
        for part in config.data.validation
    ]


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps")
    add = parser.add_argument
    add("--weights", metavar="TASK|FILE", help="the model (default with -opt: that of its run)")
    add("-opt", "--opt", metavar="FILE", help="measure on the validation sets of this file")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with -opt: change a setting",
    )
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of run folders")
    add("--lq", type=Path, metavar="DIR", help="degraded photos")
    add("--gt", type=Path, metavar="DIR", help="ground truth")
    add("--lq-suffix", default="", metavar="TEXT", help="end of degraded names")
    add("--gt-suffix", default="", metavar="TEXT", help="end of ground-truth names")
    add("--max-side", type=int, metavar="PX", help="reduce longer photos to this side")
    add("--limit", type=int, metavar="N", help="only the first N photos of each set")
    add("--samplers", nargs="+", default=[*SAMPLERS, *GRIDDED], metavar="NAME", help="default: all")
    add("--calls", nargs="+", type=int, default=CALLS, metavar="N", help="network calls per photo")
    add("--seed", type=int, default=0, help="seed of the noise")
    add("--precision", default="fp32", metavar="NAME", help="default fp32")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--out", type=Path, default=Path("docs/images"), metavar="DIR", help="folder of the chart")
    add(
        "--kept", type=Path, default=Path("runs/steps"), metavar="DIR", help="folder of the numbers"
    )
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Check the options before the work, and fill in the weights of an options file."""
    for name in options.samplers:
        find_sampler(name)
    if options.opt is None and None in (options.weights, options.lq, options.gt):
        raise ConfigError("--weights, --lq, --gt: give all three, or -opt FILE")
    if options.weights is None:
        name = load_config(options.opt, options.set).name
        options.weights = str(options.runs / name / "model.safetensors")
    return options


def main(argv: list[str] | None = None) -> None:
    """Measure, print the tables and the recommended default, draw the chart."""
    options = _checked(build_parser().parse_args(argv))
    restorer = load_restorer(options.weights, device=options.device, precision=options.precision)
    info = restorer.info
    sets = photo_sets(options, info.scale)
    names = ("weights", "opt", "set", "lq", "gt", "max_side", "limit", "seed", "precision")
    settings = {
        name: value and str(value) for name, value in vars(options).items() if name in names
    }
    kept = Measurements(options.kept / f"steps_{info.task}.json", settings)
    wanted = [(sampler, calls) for calls in options.calls for sampler in options.samplers]
    cells = [
        kept.measure(restorer, sets, *pair, seed=options.seed, limit=options.limit)
        for pair in tqdm(wanted, unit="run")
    ]
    ordered = sorted(cells, key=lambda cell: options.samplers.index(cell.sampler))
    for metric in METRICS:
        sys.stdout.write(f"{markdown_table(ordered, metric)}\n")
    found = choose(cells)
    psnr = found.scores["psnr"]
    sys.stdout.write(f"default: {found.sampler}, {found.calls} calls, {psnr:.2f} dB\n")
    draw_chart(ordered, options.out / f"steps_{info.task}.png", info.task)


if __name__ == "__main__":
    try:
        main()
    except RefusionError as failure:
        sys.exit(f"error: {failure}")
