"""What more detail than the mean costs in PSNR, and whether it is nearer to the photo for the eye.

python -m benchmarks.detail FOLDER --features FILE [--task blind] prints a Markdown table. Each row
is a way to get more detail out of the shipped models: mean + a (other - mean). The distances are
those of `benchmarks.features`, against the clean photo. The control adds noise, so that every way
must be better than it at the same PSNR: a part of what was removed (denoise), or grain (blind).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.features import HOW, EfficientNetLite0, feature_distance, texture_distance
from benchmarks.tiles import middle
from refusion import load_restorer
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.errors import ConfigError
from refusion.images.io import read_image
from refusion.images.listing import list_images
from refusion.metrics.psnr import psnr
from refusion.randomness import keyed_generator
from refusion.restorers import ArrayRestorer
from refusion.restorers.base import Conditions

SHARES = (0.5, 1.0)  # a of the ways that end at another photo
CONTROLS = {"denoise": (0.03, 0.05, 0.1), "blind": (1.0, 2.0, 4.0)}  # shares, or 8-bit levels
DENOISE = ("ode-data-2@log_snr 5", "ode-data-2@log_snr 10", "posterior@log_snr 10",
           "sde-data-2@log_snr 10")  # fmt: skip
BLIND = ("posterior@log_snr 5", "ode-data-2@log_snr 5")  # after noise of LEVELS
LEVELS = (5, 15, 25)
MARGIN = 32  # pixels around the part that is measured, which the networks see, too
Ways = Iterator[tuple[str, Tensor]]


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.detail", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of clean photos that were not used for training")
    add("--features", type=Path, required=True, metavar="FILE", help=HOW)
    add("--task", default="denoise", choices=("denoise", "blind"))
    add("--names", nargs="+", help="only these photos: file names without suffix")
    add("--crop", type=int, default=256, metavar="PX", help="side of the middle that is measured")
    add("--smaller", type=int, default=1, metavar="N", help="denoise: photos at 1/N of their size")
    add("--levels", nargs="+", type=float, default=[15, 25, 50], help="denoise: 8-bit levels")
    add("--reductions", nargs="+", type=float, default=[4, 1], help="blind: as benchmarks.blind")
    return parser


def noisy_ways(restorer: ArrayRestorer, clean: Tensor, level: float, number: int) -> Ways:
    """Results for a photo (1, 3, H, W) with Gaussian noise, which is not clipped, by name."""
    generator = keyed_generator(number, round(level))
    lq = clean + level / 255 * torch.randn(clean.shape, generator=generator)
    mean = _denoised(restorer, lq, level)
    yield "mean", mean
    for share in CONTROLS["denoise"]:
        yield f"control: {share:g} of the noise", torch.lerp(mean, lq, share)
    for how in DENOISE:
        yield from _between(how, mean, _denoised(restorer, lq, level, how))


def blind_ways(denoiser: ArrayRestorer, mean: Tensor, number: int) -> Ways:
    """The result of the blind model (1, 3, H, W), and walks from it plus noise back to none."""
    noise = torch.randn(mean.shape, generator=keyed_generator(number, 0))
    yield "mean", mean
    for level in CONTROLS["blind"]:
        yield f"control: grain of {level:g} levels", mean + level / 255 * noise
    for level in LEVELS:
        for how in BLIND:
            found = _denoised(denoiser, mean + level / 255 * noise, level, how)
            yield from _between(f"noise of {level}, {how}", mean, found)


def _denoised(restorer: ArrayRestorer, lq: Tensor, level: float, how: str = "") -> Tensor:
    """A photo without noise of a level; `how` is a sampler and its calls."""
    sampler, calls = how.split() if how else (None, 1)
    given = Conditions(noise_std=level / 255)
    return restorer.restore(lq, conditions=given, sampler=sampler, steps=int(calls))


def _between(how: str, mean: Tensor, other: Tensor) -> Ways:
    for share in SHARES:
        yield f"{how} calls, {share:g}", torch.lerp(mean, other, share)


def noisy_photos(options: argparse.Namespace) -> dict[str, Iterator[tuple[Tensor, Ways]]]:
    """The clean parts and their results, by the noise level."""
    files = [path for path in list_images(options.folder) if _is_chosen(path, options)]
    if not files:
        raise ConfigError(f"{options.folder}: no photos of these names")
    restorer = load_restorer("denoise", precision="fp32")

    def photos(level: float) -> Iterator[tuple[Tensor, Ways]]:
        for number, path in enumerate(files):
            clean = _part(_smaller(read_image(path).image[None], options.smaller), options.crop)
            yield clean, noisy_ways(restorer, clean, level, number)

    return {f"{level:g} levels": photos(level) for level in options.levels}


def degraded_photos(options: argparse.Namespace) -> dict[str, Iterator[tuple[Tensor, Ways]]]:
    """The clean parts with a margin and their results, by the reduction."""
    restorer, denoiser = (load_restorer(task, precision="fp32") for task in ("blind", "denoise"))

    def photos(reduction: float) -> Iterator[tuple[Tensor, Ways]]:
        degradation = Component("SecondOrder", {"reduction": [reduction] * 2})
        how = {"whole": True, "max_side": 1 << 16}
        data = DATASETS["SyntheticPairs"](folders=[options.folder], degradation=degradation, **how)
        for number, path in enumerate(data.photos):
            if _is_chosen(path, options):
                item, side = data[number], options.crop + 2 * MARGIN
                mean = _part(restorer.restore(item["lq"][None]), side)
                yield _part(item["gt"][None], side), blind_ways(denoiser, mean, number)

    return {f"reduced to 1/{value:g}": photos(value) for value in options.reductions}


def _is_chosen(path: Path, options: argparse.Namespace) -> bool:
    return not options.names or path.stem in options.names


def _smaller(photo: Tensor, factor: int) -> Tensor:
    """The photo (1, 3, H, W) with sides divided by `factor`, so that it has less grain."""
    if factor == 1:
        return photo
    how = {"mode": "bicubic", "antialias": True}
    return F.interpolate(photo, scale_factor=1 / factor, **how).clamp(0, 1)


def _part(photo: Tensor, side: int) -> Tensor:
    """The middle of a photo (1, 3, H, W), at most `side` pixels high and wide."""
    return middle(photo, min(side, photo.shape[-1]), min(side, photo.shape[-2]))


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Mean PSNR and distances over the photos, by the degradation and the way."""
    network = EfficientNetLite0.read(options.features)
    score = partial(scores, network)
    sets = (noisy_photos if options.task == "denoise" else degraded_photos)(options)
    return {name: _means(photos, options.crop, score) for name, photos in sets.items()}


def _means(
    photos: Iterator[tuple[Tensor, Ways]], side: int, score: Callable[[Tensor, Tensor], list[float]]
) -> dict[str, list[float]]:
    found: dict[str, list[list[float]]] = {}
    for clean, ways in photos:
        for name, image in ways:
            found.setdefault(name, []).append(score(_part(image, side), _part(clean, side)))
    return {name: [fmean(c) for c in zip(*rows, strict=True)] for name, rows in found.items()}


def scores(network: EfficientNetLite0, image: Tensor, clean: Tensor) -> list[float]:
    """PSNR in dB, `feature_distance` and `texture_distance` of an image, clamped to [0, 1]."""
    image = image.clamp(0, 1)
    distances = (
        distance(network, image, clean) for distance in (feature_distance, texture_distance)
    )
    return [float(psnr(image, clean)), *distances]


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Markdown table: PSNR, and each distance by that of the mean."""
    names = list(next(iter(found.values())))
    lines = [f"| PSNR, features, texture | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for name in names:
        cells = (_cell(ways[name], ways["mean"], name == "mean") for ways in found.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], mean: Sequence[float], is_mean: bool) -> str:
    """PSNR, and two distances: of the mean themselves, of the other ways the difference to it."""
    distances = zip(values[1:], mean[1:], strict=True)
    texts = [f"{x:.3f}" if is_mean else f"{100 * (x / m - 1):+.0f} %" for x, m in distances]
    return ", ".join([f"{values[0]:.2f}", *texts])


def run(argv: Sequence[str]) -> str:
    """The table for a command line."""
    return table(measure(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1:]))
