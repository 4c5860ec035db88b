"""Whether the draws of a model show its errors, on photos kept out of training.

python -m benchmarks.calibration PHOTOS [--task dehaze] [--draws 8] [--photos 40] degrades photos
kept out of training, takes several draws per photo and prints:

- the Spearman correlation, over pixels, of the deviation of the draws with the absolute error of
  their mean: 1 if larger deviations always have larger errors, 0 if they tell nothing;
- the share of the pixels whose truth lies within the mean plus and minus two deviations, where the
  deviation is above its median in the photo: 95 % for normally distributed errors;
- the PSNR of one result without a draw, and of the mean of the draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion import load_restorer
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.metrics import score_pair
from refusion.restorers import Conditions, HazeOptions

SIDE = 512  # long side of the photos
DEGRADATIONS = {  # by task
    "dehaze": Component("Haze", {"clean_share": 0.0}),
    "deshadow": Component("Shadow"),
    "denoise": Component("GaussianNoise", {"sigma": [25, 25], "clip": True}),
}
COARSE = 8  # pixels of the maps are means over squares of this side, as noise hides the order


@dataclass(frozen=True)
class Calibration:
    """Measures of one photo, see the docstring of the module."""

    correlation: float
    coverage: float
    single: float
    mean: float


def ranks(values: Tensor) -> Tensor:
    """Ranks 0..n-1 of the values of a vector, float64."""
    order = torch.empty(len(values), dtype=torch.float64)
    order[values.argsort(stable=True)] = torch.arange(len(values), dtype=torch.float64)
    return order


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation of two vectors of different values; 0 if one vector is constant."""
    if one.unique().numel() < 2 or other.unique().numel() < 2:
        return 0.0
    return torch.corrcoef(torch.stack([ranks(one), ranks(other)]))[0, 1].item()


def measure(draws: Tensor, truth: Tensor) -> tuple[float, float]:
    """Correlation and coverage of draws.

    Args:
        draws: (N, 3, H, W) in [0, 1].
        truth: (1, 3, H, W) in [0, 1].
    """
    mean, deviation = draws.mean(0, keepdim=True), draws.std(0, keepdim=True)
    error = (mean - truth).abs()
    coarse = (F.avg_pool2d(x.mean(1, keepdim=True), COARSE).flatten() for x in (deviation, error))
    is_uncertain = deviation > deviation.median()
    inside = error[is_uncertain] <= 2 * deviation[is_uncertain]
    return spearman(*coarse), inside.double().mean().item() if inside.numel() else 1.0


def calibration(restorer: Any, item: Mapping[str, Any], options: argparse.Namespace) -> Calibration:
    """The measures of one photo.

    Args:
        restorer: see `load_restorer`.
        item: the photo `lq`, the photo without degradation `gt`, (3, H, W), and its conditions.
        options: of the command.
    """
    lq, truth, how = item["lq"][None], item["gt"][None], Conditions.from_item(item)
    single = restorer.restore(lq, conditions=how)
    how = replace(how, haze=HazeOptions(draw=restorer.info.predicts_haze))
    sampling = {"steps": options.steps, "sampler": options.sampler, "conditions": how}
    draws = [restorer.restore(lq, seed=n, **sampling) for n in range(options.draws)]
    results = torch.cat(draws).clamp(0, 1)
    scores = (score_pair(x, truth)["psnr"] for x in (single.clamp(0, 1), results.mean(0)[None]))
    return Calibration(*measure(results, truth), *map(float, scores))


def main() -> None:
    """Print the measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", metavar="PHOTOS", help="folder of photos")
    add("--task", default="dehaze", choices=DEGRADATIONS, help="what is added and removed")
    add("--weights", help="a weights file (default: that of the task)")
    add("--steps", type=int, help="network calls of a draw (default: that of the model)")
    add("--sampler", help="sampler of a draw (default: that of the model)")
    add("--draws", type=int, default=8)
    add("--photos", type=int, default=40, help="at most so many photos")
    add("--held-out", type=int, default=4, help="one photo of so many is used; 1: all")
    options = parser.parse_args()
    every = options.held_out
    split = {"split": "held_out", "held_out": every} if every > 1 else {}
    data = DATASETS["SyntheticPairs"](
        folders=[options.folder],
        degradation=DEGRADATIONS[options.task],
        **split,
        whole=True,
        max_side=SIDE,
        seed=0,
    )
    restorer = load_restorer(options.weights or options.task, device="cpu", precision="fp32")
    step = max(1, len(data) // options.photos)
    rows = [calibration(restorer, data[n], options) for n in range(0, len(data), step)]
    for name in ("correlation", "coverage", "single", "mean"):
        value = fmean(getattr(row, name) for row in rows)
        sys.stdout.write(f"{name:<12} {value:.3f}  (n={len(rows)})\n")


if __name__ == "__main__":
    main()
