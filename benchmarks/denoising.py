"""PSNR of a denoising model and of classical methods on photos with synthetic noise.

python -m benchmarks.denoising FOLDER [--weights FILE] prints a Markdown table. As in publications
the Gaussian noise is not clipped, unless --clip is given. A classical method gets the true noise
level, and total variation the best of `TV_WEIGHTS` for each photo, chosen with the ground truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import Generator, Tensor

from refusion import load_restorer
from refusion.errors import ConfigError
from refusion.images.io import read_image
from refusion.images.listing import list_images
from refusion.images.noise_level import estimate_noise_std
from refusion.metrics.psnr import psnr
from refusion.randomness import keyed_generator
from refusion.restorers import ArrayRestorer
from refusion.restorers.base import Conditions
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations.camera_noise import CameraNoise
from refusion.synthesis.degradations.greyscale import Greyscale
from refusion.synthesis.scenes.frame import PhotoFrame

TV_WEIGHTS = (0.6, 0.8, 1.0, 1.3)  # in units of the noise level
NOISES = {
    "camera": {},
    "sensor": {"mosaic_share": 1.0, "jpeg_share": 0.0},
    "film": {"film_share": 1.0, "jpeg_share": 0.0},
    "grey": {"mosaic_share": 1.0, "jpeg_share": 0.0},
}
"""Settings of `CameraNoise`, by the name of the option."""

Scores = dict[str, float]


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.denoising", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of clean photos that were not used for training")
    add("--weights", default="denoise", help="a .safetensors file, or a shipped task")
    add("--names", nargs="+", help="only these photos: file names without suffix")
    add("--levels", nargs="+", type=float, default=[15, 25, 50], help="of the noise, 8-bit levels")
    add("--crop", type=int, metavar="PX", help="only the middle of each photo, at most this large")
    add("--steps", nargs="+", type=int, default=[1], help="numbers of network calls to measure")
    add("--sampler", help="for the measured numbers of calls; default: that of the model")
    kinds = "camera: `CameraNoise`; sensor, film: with the noise of a Bayer sensor, with grain"
    kinds += "; grey: that of a sensor in a black-and-white photo"
    add("--noise", default="gaussian", choices=("gaussian", *NOISES), help=kinds)
    add("--clip", action="store_true", help="clip and round the noisy photo, as a file does")
    add("--classical", action="store_true", help="also total variation and non-local means")
    add("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    return parser


def measure(options: argparse.Namespace) -> dict[str, dict[float, Scores]]:
    """Scores by the name of the photo and the noise level; one value per method.

    Raises:
        ConfigError: there are no photos, or scikit-image is missing.
    """
    files = list_images(options.folder)
    files = [path for path in files if not options.names or path.stem in options.names]
    if not files:
        raise ConfigError(f"{options.folder}: no photos of these names")
    restorer = load_restorer(options.weights, precision=options.precision)
    found: dict[str, dict[float, Scores]] = {}
    for number, path in enumerate(files):
        clean = _middle(read_image(path).image, options.crop)
        for level in options.levels:
            source = keyed_generator(number, round(level))
            noisy, truth = noisy_photo(clean, level, source, options)
            # The luma of a photo has less noise than its colours.
            noise = (noisy - truth).std().item() if options.noise == "grey" else level / 255
            scores = scores_of(restorer, noisy[None], truth[None], noise, options)
            found.setdefault(path.stem, {})[level] = scores
    return found


def noisy_photo(
    clean: Tensor, level: float, generator: Generator, options: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """A photo (3, H, W) with noise of a level in 8-bit levels, and the photo without it."""
    if options.noise in NOISES:
        noise = CameraNoise(sigma=(level, level), white_share=0.0, **NOISES[options.noise])
        noise = Greyscale(noise, 1.0) if options.noise == "grey" else noise
        made = noise(clean, generator, PhotoFrame.whole(clean))
        return made["lq"], made.get("gt", clean)
    noisy = clean + level / 255 * torch.randn(clean.shape, generator=generator)
    return quantise(noisy) if options.clip else noisy, clean


def _middle(photo: Tensor, side: int | None) -> Tensor:
    """The middle of a photo (3, H, W), at most `side` pixels high and wide; None for all of it."""
    for axis in (1, 2):
        kept = min(photo.shape[axis], side or photo.shape[axis])
        photo = photo.narrow(axis, (photo.shape[axis] - kept) // 2, kept)
    return photo


def scores_of(
    restorer: ArrayRestorer,
    noisy: Tensor,
    clean: Tensor,
    noise_std: float,
    options: argparse.Namespace,
) -> Scores:
    """PSNR in dB of each method for one photo (1, 3, H, W); the estimated level in 8-bit levels."""

    def score(image: Tensor) -> float:
        return float(psnr(image.clamp(0, 1), clean))

    scores = {"noisy": score(noisy)}
    if options.classical:
        weights = [weight * noise_std for weight in TV_WEIGHTS]
        scores["total variation"] = max(score(total_variation(noisy, w)) for w in weights)
        scores["non-local means"] = score(non_local_means(noisy, noise_std))
    for steps in options.steps:
        how = {"steps": steps, "sampler": options.sampler}
        given = Conditions(noise_std=noise_std)
        scores[f"model, {steps} steps"] = score(restorer.restore(noisy, conditions=given, **how))
    scores["model, estimated level"] = score(restorer.restore(noisy))
    return scores | {"estimate": 255 * estimate_noise_std(noisy).item()}


def total_variation(noisy: Tensor, weight: float) -> Tensor:
    """The image (1, 3, H, W) that minimises |x - y|^2 / 2 + w TV(x) (Chambolle, 2004)."""
    from skimage.restoration import denoise_tv_chambolle

    return torch.from_numpy(denoise_tv_chambolle(noisy[0].numpy(), weight, channel_axis=0))[None]


def non_local_means(noisy: Tensor, noise_std: float) -> Tensor:
    """Non-local means (Buades et al., 2005) with the settings of scikit-image's example."""
    from skimage.restoration import denoise_nl_means

    how = {"h": 0.8 * noise_std, "sigma": noise_std, "patch_size": 5, "patch_distance": 6}
    smooth = denoise_nl_means(noisy[0].numpy(), fast_mode=True, channel_axis=0, **how)
    return torch.from_numpy(smooth)[None]


def table(found: Mapping[str, Mapping[float, Scores]]) -> str:
    """Markdown table: means over the photos for each noise level."""
    levels = list(next(iter(found.values())))
    columns = list(found[next(iter(found))][levels[0]])
    lines = [f"| noise level | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for level in levels:
        means = [fmean(photo[level][name] for photo in found.values()) for name in columns]
        lines.append(f"| {level:g} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines) + "\n"


def run(argv: Sequence[str]) -> str:
    """The table for a command line."""
    return table(measure(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1:]))
