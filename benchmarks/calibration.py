"""Whether the draws of a model show its errors, on photos kept out of training.

python -m benchmarks.calibration PHOTOS [--task dehaze] [--draws 8] [--photos 40] adds haze to
photos kept out of training, takes several draws per photo and prints:

- the Spearman correlation, over pixels, of the deviation of the draws with the absolute error of
  their mean: 1 if larger deviations always have larger errors, 0 if they tell nothing;
- the share of the pixels whose truth lies within the mean plus and minus two deviations, where the
  deviation is above its median in the photo: 95 % for normally distributed errors;
- the PSNR of one result without a draw, and of the mean of the draws.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
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


def calibration(restorer: Any, lq: Tensor, truth: Tensor, draws: int) -> Calibration:
    """The measures of one photo.

    Args:
        restorer: see `load_restorer`.
        lq: the photo, (1, 3, H, W).
        truth: the photo without degradation, same shape.
        draws: number of draws.
    """
    single = restorer.restore(lq)
    how = Conditions(haze=HazeOptions(draw=True))
    results = torch.cat([restorer.restore(lq, seed=n, conditions=how) for n in range(draws)])
    scores = (score_pair(x.clamp(0, 1), truth)["psnr"] for x in (single, results.mean(0)[None]))
    return Calibration(*measure(results.clamp(0, 1), truth), *map(float, scores))


def main() -> None:
    """Print the measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="PHOTOS", help="folder of photos without haze")
    parser.add_argument("--task", default="dehaze", help="task, or a weights file")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--photos", type=int, default=40)
    options = parser.parse_args()
    data = DATASETS["SyntheticPairs"](
        folders=[options.folder],
        degradation=Component("Haze", {"clean_share": 0.0}),
        split="held_out",
        held_out=4,
        whole=True,
        max_side=SIDE,
        seed=0,
    )
    restorer, rows = load_restorer(options.task, device="cpu", precision="fp32"), []
    step = max(1, len(data) // options.photos)
    for number in range(0, len(data), step):
        item = data[number]
        rows.append(calibration(restorer, item["lq"][None], item["gt"][None], options.draws))
    for name in ("correlation", "coverage", "single", "mean"):
        value = fmean(getattr(row, name) for row in rows)
        sys.stdout.write(f"{name:<12} {value:.3f}  (n={len(rows)})\n")


if __name__ == "__main__":
    main()
