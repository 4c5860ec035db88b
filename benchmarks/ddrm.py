"""DDRM compared with pseudo-inverse, total variation and bicubic, on photos kept out of training.

    python -m benchmarks.ddrm --photos PHOTOS                  with the shipped prior
    python -m benchmarks.ddrm --photos PHOTOS --prior PRIOR.safetensors --crop 256

The program prints one Markdown row per task: mean PSNR in dB, by default with noise of sigma 0.05.
DDRM computes the mean and one sample per photo. Total variation minimises
|H x - y|^2 / 2 + w TV(x) by proximal gradients with scikit-image's Chambolle. Its w is the best of
`WEIGHTS` for each photo. The choice uses the ground truth, which favours total variation.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from tqdm import tqdm

from refusion.errors import ConfigError, RefusionError
from refusion.images.io import read_image
from refusion.images.listing import list_images
from refusion.metrics.psnr import psnr
from refusion.operators import LinearOperator
from refusion.restorers import load_prior
from refusion.restorers.ddrm.borders import continue_data
from refusion.restorers.ddrm.mean import STEPS
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import (
    Problem,
    colorize,
    compressed,
    deblur,
    denoise,
    gaussian_deblur,
    inpaint,
    super_resolution,
)
from refusion.restorers.ddrm.restorer import sample_photos
from refusion.restorers.ddrm.sampling import DDRMSettings
from refusion.sde import SeededNoise

MULTIPLE = 16  # photos are cropped to multiples of it, so that every factor divides their sides
HIDDEN = 0.5  # share of the pixels that inpainting must fill
FLOOR = 0.03  # of the pseudo-inverse; with 0 its result for blur is only noise
WEIGHTS = (0.02, 0.05, 0.1, 0.2)  # of total variation, in units of the largest singular value^2
COLUMNS = ("plain", "pseudo-inverse", "total variation", "DDRM, mean", "DDRM, sample")


def problems(size: tuple[int, int]) -> dict[str, Problem]:
    """The tasks for photos of size (H, W)."""
    kept = torch.rand(size, generator=Generator().manual_seed(1)) > HIDDEN
    return {
        "denoise": denoise(),
        "sr4mean": super_resolution(4, "mean"),
        "sr4": super_resolution(4),
        "inpaint": inpaint(kept),
        "colorize": colorize(),
        "deblur gauss:2.0": gaussian_deblur(2.0, "mirrored"),
        "cs": compressed(0.25),
        "deblur motion": deblur(motion_kernel()),
    }


def motion_kernel() -> Tensor:
    """A straight motion of 13 pixels, 30 degrees below the rows, (15, 15); it has a soft edge."""
    rows, columns = torch.meshgrid(*[torch.arange(-7, 8).double()] * 2, indexing="ij")
    angle = torch.tensor(torch.pi / 6)
    along = columns * angle.cos() + rows * angle.sin()
    across = rows * angle.cos() - columns * angle.sin()
    kernel = torch.exp(-0.5 * (across / 0.6) ** 2) * (along.abs() <= 6.5)
    return kernel / kernel.sum()


def inner(image: Tensor, margin: tuple[int, int]) -> Tensor:
    """An image (..., H, W) without margins of `rows, columns`."""
    rows, columns = margin
    height, width = image.shape[-2:]
    return image[..., rows : height - rows, columns : width - columns]


def restored(
    photo: Tensor, problem: Problem, prior: Prior, options: argparse.Namespace
) -> dict[str, Tensor]:
    """The restored photo (1, 3, H, W) of each column, by the name of the column.

    If the data depend on pixels beyond the borders, these are the outer pixels of `photo`. The
    results are without them.
    """
    operator = problem.operator(tuple(photo.shape[1:]))
    y = inner(operator.forward(photo), problem.margin)
    y = y + options.sigma * torch.randn(y.shape, generator=Generator().manual_seed(2))
    seen = plain(y, inner(photo, problem.margin))
    if any(problem.margin):
        y = continue_data(y, operator, problem.margin)
    # Computed around mid gray, so that unknown pixels are gray and not black; this favours it.
    gray = torch.full_like(photo, 0.5)
    inverse = gray + operator.pinv(y - operator.forward(gray), FLOOR)
    settings = (
        DDRMSettings(steps=options.mean_steps, estimate="mean"),
        DDRMSettings(steps=options.steps),
    )
    found = [
        sample_photos(prior, operator, y, options.sigma, each, SeededNoise(0)).cpu()
        for each in settings[: 1 if options.no_samples else 2]
    ]
    smooth = [total_variation(operator, y, inverse, weight, options.tv_steps) for weight in WEIGHTS]
    truth, *smooth = (inner(image, problem.margin) for image in (photo, *smooth))
    best = max(smooth, key=lambda image: float(psnr(image.clamp(0, 1), truth)))
    inverse, *found = (inner(image, problem.margin) for image in (inverse, *found))
    return dict(zip(COLUMNS, (seen, inverse, best, *found), strict=False))


def plain(y: Tensor, photo: Tensor) -> Tensor:
    """The data without restoration: enlarged if smaller, mid gray if they are not an image."""
    if y.ndim != 4:
        return torch.full_like(photo, 0.5)
    if y.shape[-2:] != photo.shape[-2:]:
        y = F.interpolate(y, size=photo.shape[-2:], mode="bicubic")
    return y.expand_as(photo)


def total_variation(
    operator: LinearOperator, y: Tensor, start: Tensor, weight: float, steps: int
) -> Tensor:
    """The image (1, 3, H, W) that minimises |H x - y|^2 / 2 + w TV(x), by FISTA from `start`.

    Args:
        operator: H.
        y: data.
        start: first image of the iteration.
        weight: w in units of the largest singular value^2.
        steps: iterations.

    Raises:
        ConfigError: scikit-image is missing.
    """
    try:
        from skimage.restoration import denoise_tv_chambolle
    except ImportError:
        raise ConfigError("total variation needs scikit-image; pip install scikit-image") from None
    rate = 1 / float(operator.singulars.max()) ** 2
    x = ahead = start
    for step in range(steps):
        moved = ahead - rate * operator.adjoint(operator.forward(ahead) - y)
        smooth = denoise_tv_chambolle(moved[0].numpy(), weight=weight, channel_axis=0)
        before, x = x, torch.from_numpy(smooth)[None].to(start)
        ahead = x + step / (step + 3) * (x - before)
    return x


def markdown_table(table: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown table, one row per task: means over the photos in dB, the best in bold."""
    measured = next(iter(table.values()))[0]
    columns = [column for column in COLUMNS if column in measured]
    lines = [f"| task | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for task, rows in table.items():
        means = [statistics.fmean(row[column] for row in rows) for column in columns]
        best = max(means)
        cells = [f"**{mean:.2f}**" if mean == best else f"{mean:.2f}" for mean in means]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ddrm")
    add = parser.add_argument
    add("--photos", type=Path, required=True, metavar="DIR", help="clean photos")
    add("--prior", type=Path, metavar="FILE|DIR", help="default: the shipped prior")
    add("--tasks", nargs="+", metavar="TASK", help="default: all")
    add(
        "--sigma", type=float, default=0.05, help="noise of the data, in parts of full scale (0..1)"
    )
    add("--steps", type=int, default=20, help="network calls per photo and tile of a sample")
    add("--mean-steps", type=int, default=STEPS, help="network calls of the mean")
    add("--no-samples", action="store_true", help="only the mean, in a third of the time")
    add("--tv-steps", type=int, default=20, help="iterations of total variation")
    add("--crop", type=int, metavar="PX", help="only the middle of each photo, at most this large")
    add("--limit", type=int, metavar="N", help="only the first N photos")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    return parser


def cropped(photo: Tensor, side: int | None) -> Tensor:
    """The middle of a photo (..., H, W), cropped to multiples of `MULTIPLE`.

    Raises:
        ConfigError: nothing is left.
    """
    for axis in (-2, -1):
        length = photo.shape[axis]
        kept = min(length, side or length) // MULTIPLE * MULTIPLE
        if kept == 0:
            raise ConfigError(f"--crop: photos of {MULTIPLE} pixels or more are needed")
        photo = photo.narrow(axis, (length - kept) // 2, kept)
    return photo


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    options = build_parser().parse_args(argv)
    known = list(problems((MULTIPLE, MULTIPLE)))
    tasks = options.tasks or known
    if not set(tasks) <= set(known):
        raise ConfigError(f"--tasks: expected some of {', '.join(known)}, got {', '.join(tasks)}")
    prior = load_prior(options.prior, device=options.device)
    files = list_images(options.photos)[: options.limit]
    table: dict[str, list[dict[str, float]]] = {task: [] for task in tasks}
    for path in tqdm(files, unit="photo"):
        photo = cropped(read_image(path).image[None], options.crop)
        for task in tasks:
            problem = problems(tuple(photo.shape[-2:]))[task]
            with torch.no_grad():
                made = restored(photo, problem, prior, options)
            truth = inner(photo, problem.margin)
            scores = {name: float(psnr(image.clamp(0, 1), truth)) for name, image in made.items()}
            table[task].append(scores)
    sys.stdout.write(markdown_table(table))


if __name__ == "__main__":
    try:
        main()
    except RefusionError as failure:
        sys.exit(f"error: {failure}")
