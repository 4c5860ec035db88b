"""Gain of the shipped dehazing model by the PSNR of its input, on photos kept out of training.

python benchmarks/haze_levels.py FOLDER_OF_CLEAN_PHOTOS [DRAWS] adds DRAWS samples of haze to each
photo.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from statistics import mean, median

from refusion import load_restorer
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.metrics import score_pair

LEVELS = (0, 10, 15, 20, 25, 30, 99)  # PSNR of the input in dB


def measure(folder: str, draws: int) -> list[tuple[float, float]]:
    """PSNR of (input, result) for every photo and every sample of haze."""
    restorer, rows = load_restorer("dehaze"), []
    for seed in range(draws):
        data = DATASETS["SyntheticPairs"](
            folders=[folder],
            degradation=Component("Haze"),
            split="held_out",
            whole=True,
            max_side=768,
            seed=seed,
        )
        for item in (data[number] for number in range(len(data))):
            lq, gt = item["lq"][None], item["gt"][None]
            pair = (score_pair(image, gt)["psnr"] for image in (lq, restorer.restore(lq)))
            rows.append(tuple(float(value) for value in pair))
    return rows


def line(name: str, rows: list[tuple[float, float]]) -> str:
    """One row of the table."""
    gains = [result - given for given, result in rows]
    better = sum(gain > 0 for gain in gains) / len(gains)
    given, result = (mean(column) for column in zip(*rows, strict=True))
    return (
        f"{name:<10} {len(rows):>4} {given:>7.2f} {result:>7.2f} {mean(gains):>+7.2f} "
        f"{median(gains):>+7.2f} {better:>7.0%}\n"
    )


def main() -> None:
    """Print the table."""
    rows = measure(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 9)
    sys.stdout.write("input dB      n   input  result    gain  median  better\n")
    for low, high in pairwise(LEVELS):
        part = [row for row in rows if low <= row[0] < high]
        if part:
            sys.stdout.write(line(f"{low}-{high}", part))
    sys.stdout.write(line("below 30", [row for row in rows if row[0] < 30]))
    sys.stdout.write(line("all", rows))


if __name__ == "__main__":
    main()
