"""Change by a restoration in areas that were not degraded, for example areas without shadow.

python -m benchmarks.untouched --task deshadow --lq FOLDER --gt FOLDER restores whole photos. It
compares the results with the inputs in areas where input and ground truth agree.
"""

from __future__ import annotations

import argparse
import sys
from statistics import mean

from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from refusion import load_restorer
from refusion.data import DATASETS

AGREE = 6 / 255  # largest mean difference of input and ground truth in a window without shadow
WINDOW = 1 / 64  # of the photo's long side; also the margin around shadows that is left out


def untouched(lq: Tensor, gt: Tensor) -> Tensor:
    """Mask (B, 1, H, W), bool, of the areas where a pair (B, 3, H, W) agrees."""
    side = max(1, round(WINDOW * max(lq.shape[-2:]))) // 2 * 2 + 1
    difference = avg_pool2d(
        (lq - gt).mean(1, keepdim=True), side, 1, side // 2, count_include_pad=False
    )
    return max_pool2d(difference.abs(), side, 1, side // 2) < AGREE


def measure(restorer: object, lq: Tensor, gt: Tensor) -> tuple[float, float]:
    """Share of the photo that was not degraded, and its mean change in 8-bit levels."""
    where = untouched(lq, gt).expand_as(lq)
    change = (restorer.restore(lq) - lq).abs()[where]
    return where.float().mean().item(), 255 * change.mean().item() if len(change) else 0.0


def main() -> None:
    """Print one line per photo, and the mean over the photos with such areas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lq", required=True)
    parser.add_argument("--gt", required=True)
    parser.add_argument("--task", default="deshadow")
    parser.add_argument("--weights", help="checkpoint to use instead of the weights of the task")
    options = parser.parse_args()
    restorer = load_restorer(options.weights or options.task)
    data = DATASETS["PairedFolder"](lq=options.lq, gt=options.gt)
    changes = []
    for item in (data[number] for number in range(len(data))):
        share, change = measure(restorer, item["lq"][None], item["gt"][None])
        changes += [change] if share > 0 else []
        sys.stdout.write(
            f"{item['name']:<24} {share:>5.0%} not degraded, changed by {change:.2f}\n"
        )
    sys.stdout.write(f"mean of {len(changes)}: {mean(changes):.2f} levels\n")


if __name__ == "__main__":
    main()
