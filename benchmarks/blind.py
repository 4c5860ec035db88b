"""Gain of a model for blind restoration on photos that a published pipeline degraded.

python -m benchmarks.blind FOLDER [--weights FILE] prints a Markdown table. Every photo has its own
degradation, a function of its name and the number of the draw. So all models get the same inputs.
The median of 3 x 3 pixels and a bilateral filter are the baselines. --degradation is a name, or a
section as in an option file: "{type: Jpeg, quality: [10, 10]}". With --degradation none the photos
stay clean, and the table shows what the model changes of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion import load_restorer
from refusion.config.yaml_text import read_yaml_text
from refusion.data import DATASETS
from refusion.metrics import score_pair

METRICS = ("psnr", "ssim")
SPATIAL, TONAL = 1.5, 0.1  # standard deviations of the bilateral filter: pixels, full scale
RADIUS = 3  # pixels
FULL_SIZE = 1 << 16  # pixels: no photo is reduced


@dataclass(frozen=True)
class Row:
    """Scores of one photo under one degradation, by the names in `METRICS`.

    Attributes:
        name: name of the photo.
        given: scores of the degraded photo.
        restored: scores of the result.
        filtered: scores of the baselines by the names in `FILTERS`.
    """

    name: str
    given: dict[str, float]
    restored: dict[str, float]
    filtered: dict[str, dict[str, float]]


def median(photo: Tensor) -> Tensor:
    """Median of 3 x 3 pixels of each channel, (1, 3, H, W)."""
    return _windows(photo, 1).median(dim=2).values


def bilateral(photo: Tensor) -> Tensor:
    """Bilateral filter (Tomasi and Manduchi, 1998) with the RGB distance, (1, 3, H, W)."""
    windows = _windows(photo, RADIUS)
    offsets = torch.arange(-RADIUS, RADIUS + 1.0)
    near = (offsets[:, None] ** 2 + offsets**2).flatten()[None, :, None, None]
    apart = (windows - photo[:, :, None]).square().sum(dim=1)
    weights = torch.exp(-near / (2 * SPATIAL**2) - apart / (2 * TONAL**2))
    return (windows * weights[:, None]).sum(dim=2) / weights.sum(dim=1)[:, None]


def _windows(photo: Tensor, radius: int) -> Tensor:
    """The pixels around each pixel, reflected at the border: (1, 3, n, H, W)."""
    side, wide = 2 * radius + 1, F.pad(photo, (radius,) * 4, mode="reflect")
    return F.unfold(wide, side).reshape(1, 3, side**2, *photo.shape[-2:])


FILTERS = {"median": median, "bilateral": bilateral}


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.blind", description=__doc__)
    add = parser.add_argument
    add("folder", help="folder of clean photos that were not used for training")
    add("--weights", default="blind", help="a .safetensors file, or a shipped task")
    add("--names", nargs="+", help="only these photos: file names without suffix")
    add("--degradation", default="SecondOrder", help="a name or a section in YAML, or none")
    add("--reduction", type=float, help="for SecondOrder: final size is 1/REDUCTION; published 4")
    add("--draws", type=int, default=1, help="number of degradations per photo")
    add("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    return parser


def measure(options: argparse.Namespace) -> list[Row]:
    """Degrade, restore and score every photo."""
    restorer, rows = load_restorer(options.weights, precision=options.precision), []
    degradation = degradation_of(options.degradation, options.reduction)
    for draw in range(options.draws):
        data = DATASETS["SyntheticPairs"](
            folders=[options.folder],
            degradation=degradation,
            whole=True,
            max_side=FULL_SIZE,
            seed=draw,
        )
        for number, path in enumerate(data.photos):
            if options.names and path.stem not in options.names:
                continue
            item = data[number]
            lq, gt = item["lq"][None], item["gt"][None]
            found = _scores(lq, gt), _scores(restorer.restore(lq), gt)
            filtered = {name: _scores(run(lq), gt) for name, run in FILTERS.items()}
            rows.append(Row(item["name"], *found, filtered))
    return rows


def degradation_of(text: str, reduction: float | None = None) -> dict[str, Any]:
    """The section of a degradation: of a name, of the section itself in YAML, or of "none"."""
    if text == "none":
        return {"type": "SecondOrder", "clean_share": 1.0}
    given = read_yaml_text(text, "--degradation")
    section = given if isinstance(given, dict) else {"type": given}
    return section if reduction is None else {**section, "reduction": [reduction] * 2}


def _scores(image: Tensor, target: Tensor) -> dict[str, float]:
    scores = score_pair(image, target)
    return {key: float(scores[key]) for key in METRICS}


def table(rows: Sequence[Row]) -> str:
    """Markdown table: mean per photo over its degradations, and mean over all."""
    names = list(dict.fromkeys(row.name for row in rows))
    columns = ["photo", "input PSNR / SSIM", "restored PSNR / SSIM", "gain", *FILTERS]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [_line(name, [row for row in rows if row.name == name]) for name in names]
    return "\n".join([*lines, _line(f"mean of {len(rows)}", rows)]) + "\n"


def _line(name: str, rows: Sequence[Row]) -> str:
    given, restored = (
        {key: fmean(getattr(row, side)[key] for row in rows) for key in METRICS}
        for side in ("given", "restored")
    )
    pairs = (f"{scores['psnr']:.2f} dB / {scores['ssim']:.4f}" for scores in (given, restored))
    gain = f"{restored['psnr'] - given['psnr']:+.2f} dB"
    filters = (f"{fmean(row.filtered[key]['psnr'] for row in rows):.2f} dB" for key in FILTERS)
    return f"| {' | '.join([name, *pairs, gain, *filters])} |"


def run(argv: Sequence[str]) -> str:
    """The table for a command line."""
    return table(measure(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1:]))
