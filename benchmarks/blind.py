"""Gain of a model for blind restoration on photos that a published pipeline degraded.

python -m benchmarks.blind FOLDER [--weights FILE] prints a Markdown table. Every photo has its own
degradation, a function of its name and the number of the draw. So all models get the same inputs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from refusion import load_restorer
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.metrics import score_pair

METRICS = ("psnr", "ssim")
FULL_SIZE = 1 << 16  # pixels: no photo is reduced


@dataclass(frozen=True)
class Row:
    """Scores of one photo under one degradation, by the names in `METRICS`."""

    name: str
    given: dict[str, float]
    restored: dict[str, float]


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.blind", description=__doc__)
    add = parser.add_argument
    add("folder", help="folder of clean photos that were not used for training")
    add("--weights", default="blind", help="a .safetensors file, or a shipped task")
    add("--names", nargs="+", help="only these photos: file names without suffix")
    add("--degradation", default="SecondOrder", choices=("SecondOrder", "FirstOrder"))
    add("--reduction", type=float, help="for SecondOrder: final size is 1/REDUCTION; published 4")
    add("--draws", type=int, default=1, help="number of degradations per photo")
    add("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    return parser


def measure(options: argparse.Namespace) -> list[Row]:
    """Degrade, restore and score every photo."""
    restorer, rows = load_restorer(options.weights, precision=options.precision), []
    settings = {} if options.reduction is None else {"reduction": [options.reduction] * 2}
    for draw in range(options.draws):
        data = DATASETS["SyntheticPairs"](
            folders=[options.folder],
            degradation=Component(options.degradation, settings),
            whole=True,
            max_side=FULL_SIZE,
            seed=draw,
        )
        for number, path in enumerate(data.photos):
            if options.names and path.stem not in options.names:
                continue
            item = data[number]
            lq, gt = item["lq"][None], item["gt"][None]
            pair = (score_pair(image, gt) for image in (lq, restorer.restore(lq)))
            given, restored = ({key: float(scores[key]) for key in METRICS} for scores in pair)
            rows.append(Row(item["name"], given, restored))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown table: mean per photo over its degradations, and mean over all."""
    names = list(dict.fromkeys(row.name for row in rows))
    lines = ["| photo | input PSNR / SSIM | restored PSNR / SSIM | gain |", "|---|---|---|---|"]
    lines += [_line(name, [row for row in rows if row.name == name]) for name in names]
    return "\n".join([*lines, _line(f"mean of {len(rows)}", rows)]) + "\n"


def _line(name: str, rows: Sequence[Row]) -> str:
    given, restored = (
        {key: fmean(getattr(row, side)[key] for row in rows) for key in METRICS}
        for side in ("given", "restored")
    )
    pairs = (f"{scores['psnr']:.2f} dB / {scores['ssim']:.4f}" for scores in (given, restored))
    return f"| {name} | {' | '.join(pairs)} | {restored['psnr'] - given['psnr']:+.2f} dB |"


def run(argv: Sequence[str]) -> str:
    """The table for a command line."""
    return table(measure(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1:]))
