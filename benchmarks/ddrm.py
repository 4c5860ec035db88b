"""DDRM against the pseudo-inverse and bicubic enlargement, on photos that the prior never saw.

    python benchmarks/ddrm.py --prior runs/ddrm_prior/model.safetensors --photos PHOTOS

Prints one Markdown row per task: mean PSNR in dB of each, with noise of sigma 0.05 by default.
"""

from __future__ import annotations

import argparse
import statistics

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.data.image_io import list_images, read_image
from refusion.inference.blending import blend_tiles
from refusion.metrics.psnr import psnr
from refusion.operators import LinearOperator
from refusion.restorers import load_prior
from refusion.restorers.ddrm import DDRMSettings, sample_ddrm
from refusion.restorers.problems import (
    Problem,
    colorize,
    compressed,
    denoise,
    gaussian_deblur,
    inpaint,
    super_resolution,
)
from refusion.sde import SeededNoise

MULTIPLE = 16  # sides are cropped to it, so that every factor divides them
HIDDEN = 0.5  # share of the pixels that inpainting must fill


def problems(size: tuple[int, int]) -> list[Problem]:
    """The tasks on photos of (H, W)."""
    kept = torch.rand(size, generator=Generator().manual_seed(1)) > HIDDEN
    return [
        denoise(),
        super_resolution(4, "mean"),
        super_resolution(4),
        inpaint(kept),
        colorize(),
        gaussian_deblur(2.0),
        compressed(0.25),
    ]


def scores(photo: Tensor, problem: Problem, options: argparse.Namespace) -> list[float]:
    """PSNR in dB of bicubic (or the photo as it is), the pseudo-inverse and DDRM."""
    operator = problem.operator(tuple(photo.shape[1:]))
    y = operator.forward(photo)
    y = y + options.sigma * torch.randn(y.shape, generator=Generator().manual_seed(2))
    floor = 0.03  # without it the blur's pseudo-inverse is noise alone
    made = [_plain(y, photo), operator.pinv(y, floor), _ddrm(operator, y, options)]
    return [float(psnr(image.clamp(0, 1), photo)) for image in made]


def _plain(y: Tensor, photo: Tensor) -> Tensor:
    """What one sees without restoring: enlarged where smaller, mid gray where it is no picture."""
    if y.ndim != 4:
        return torch.full_like(photo, 0.5)
    if y.shape[-2:] != photo.shape[-2:]:
        y = F.interpolate(y, size=photo.shape[-2:], mode="bicubic")
    return y.expand_as(photo)


def _ddrm(operator: LinearOperator, y: Tensor, options: argparse.Namespace) -> Tensor:
    prior = options.loaded
    side = prior.side

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        if side is None:
            return prior.predict_noise(xt, t)
        return blend_tiles(lambda x, _: prior.predict_noise(x, t), xt, xt, side, 1)

    y = (2 * y - operator.forward(torch.ones(1, *operator.image_shape))).to(prior.device)
    settings = DDRMSettings(steps=options.steps)
    noises = SeededNoise(0)
    made = sample_ddrm(
        operator, y, 2 * options.sigma, predict_noise, prior.alpha_bar, noises, settings
    )
    return (made.cpu() + 1) / 2


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", required=True)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--sigma", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.loaded = load_prior(options.prior, device=options.device)
    table: dict[str, list[list[float]]] = {}
    for path in list_images(options.photos):
        photo = read_image(path).image[None]
        height, width = (side - side % MULTIPLE for side in photo.shape[-2:])
        photo = photo[..., :height, :width]
        for number, problem in enumerate(problems((height, width))):
            name = f"{number} {problem.task}"
            with torch.no_grad():
                table.setdefault(name, []).append(scores(photo, problem, options))
    print("| task | plain | pseudo-inverse | DDRM |\n|---|---|---|---|")
    for name, rows in table.items():
        means = " | ".join(f"{statistics.fmean(row):.2f}" for row in zip(*rows, strict=True))
        print(f"| {name} | {means} |")


if __name__ == "__main__":
    main()
