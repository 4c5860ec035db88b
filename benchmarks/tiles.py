"""What blended tiles change: pixels computed, and differences from the photo without tiles.

python -m benchmarks.tiles PHOTO --task denoise --noise 25 prints a Markdown table with one row for
each side of the tiles. The times are those of the processor, in float32, by that without tiles.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from refusion import load_restorer
from refusion.images.io import read_image
from refusion.metrics.psnr import psnr
from refusion.randomness import keyed_generator
from refusion.restorers import ArrayRestorer
from refusion.synthesis.camera import quantise
from refusion.tiling.blending import grid_windows

STRIDE = 16  # of the shipped networks that run in blended tiles


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.tiles", description=__doc__)
    add = parser.add_argument
    add("photo", type=Path, help="a clean photo")
    add("--task", default="denoise", choices=("denoise", "blind"))
    add("--tiles", nargs="+", type=int, default=[1024, 1472], metavar="PX", help="sides")
    add("--crop", nargs=2, type=int, metavar=("W", "H"), help="only the middle of the photo")
    add("--noise", type=float, default=25, help="standard deviation of the noise, 8-bit levels")
    return parser


def share_computed(height: int, width: int, tile: int) -> float:
    """Pixels of all tiles of a photo by its own pixels."""
    rows, columns = (
        sum(len(weights) for _, weights in windows)
        for windows in grid_windows(height, width, tile, STRIDE)
    )
    return rows * columns / (height * width)


def middle(photo: Tensor, width: int, height: int) -> Tensor:
    """The middle of a photo (..., H, W)."""
    top, left = (photo.shape[-2] - height) // 2, (photo.shape[-1] - width) // 2
    return photo[..., top : top + height, left : left + width]


def measure(restorer: ArrayRestorer, clean: Tensor, options: argparse.Namespace) -> list[list[str]]:
    """One row of texts per side of the tiles; the first row is the photo without tiles.

    Args:
        restorer: the restorer, in float32.
        clean: photo (1, 3, H, W) in [0, 1].
        options: of `build_parser`.
    """
    generator = keyed_generator(0, round(options.noise))
    lq = quantise(clean + options.noise / 255 * torch.randn(clean.shape, generator=generator))

    def run(tile: int | None) -> tuple[Tensor, float]:
        start = time.process_time()
        return restorer.restore(lq, tile=tile).clamp(0, 1), time.process_time() - start

    whole, seconds = run(None)
    rows = [["none", "1.00", "1.00", "", "", f"{float(psnr(whole, clean)):.2f}"]]
    for tile in options.tiles:
        found, taken = run(tile)
        levels = 255 * (found - whole).abs()
        share = share_computed(*clean.shape[-2:], tile)
        differences = f"{float(levels.mean()):.2f}", f"{float(levels.max()):.1f}"
        quality = f"{float(psnr(found, clean)):.2f}"
        rows.append([str(tile), f"{share:.2f}", f"{taken / seconds:.2f}", *differences, quality])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    options = build_parser().parse_args(arguments)
    clean = read_image(options.photo).image[None]
    clean = clean if options.crop is None else middle(clean, *options.crop)
    head = ["tiles", "pixels", "time", "mean difference", "largest", "PSNR"]
    rows = measure(load_restorer(options.task, precision="fp32"), clean, options)
    for row in [head, ["---"] * len(head), *rows]:
        sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main()
