"""Options of `--method ddrm`: the known degradation of the photos, and the prior."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refusion.cli.options.model import CONDITION_OPTIONS
from refusion.cli.options.values import finite_number, option_name, share
from refusion.errors import ConfigError, suggest

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.restorers.ddrm.problems import Problem
    from refusion.restorers.ddrm.restorer import DDRM

TASKS = ("sr4", "inpaint", "colorize", "deblur", "denoise", "cs")
_SHARED = ("sigma",)  # other tasks use it, too
_NEEDS = {"inpaint": "mask", "deblur": "kernel", "denoise": "sigma"}
OWN = ("sigma", "mask", "kernel", "estimate", "eta", "eta_b", "floor", "official")
"""Keys of the options of the method."""
FLOOR = 0.03
"""Value of the published code: without noise, smaller singular values are rounding errors."""
OF_SAMPLES = ("eta", "eta_b", "official", "samples", "uncertainty")
"""Keys of options that only random samples have."""


def add_ddrm_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options of the known degradation."""
    add("--sigma", type=_level, metavar="S", help="standard deviation of the noise, 0..1")
    add("--mask", type=Path, metavar="FILE", help="image of the photo's size, white: known pixels")
    add("--kernel", metavar="FILE|gauss:PX", help="blur kernel: a gray image, or gauss:2.0")
    add(
        "--estimate",
        choices=("mean", "sample"),
        help="mean of all photos that fit the data, or a random one of them by DDRM, which is less "
        "smooth and further from the truth (default: mean; sample with --samples, --eta, --eta-b "
        "or --official)",
    )
    add(
        "--eta",
        type=share,
        metavar="0..1",
        help="fraction of new noise where there are no data (default: 0.85)",
    )
    add("--eta-b", type=share, metavar="0..1", help="weight of the data (default: 1)")
    add(
        "--floor",
        type=share,
        metavar="0..1",
        help=f"smaller singular values count as 0 (default: {FLOOR}; 0 with --sigma, except for "
        "deblur)",
    )
    add(
        "--official",
        action="store_true",
        default=None,
        help="deviate from the paper as the published code does",
    )


def chosen_ddrm(options: argparse.Namespace, device: Any) -> DDRM:
    """Make the restorer that the options describe.

    Args:
        options: parsed options.
        device: torch device of the networks.

    Raises:
        RefusionError: an option is missing, not used or wrong, or the prior does not exist.
    """
    from refusion.restorers import DDRM, load_prior
    from refusion.restorers.ddrm.mean import STEPS as MEAN_STEPS
    from refusion.restorers.ddrm.sampling import DDRMSettings

    for key in (*CONDITION_OPTIONS, "sampler"):
        if vars(options)[key] is not None:
            raise ConfigError(f"{option_name(key)}: --method ddrm does not use it")
    problem = _problem(options)
    prior = load_prior(options.weights, device=device, precision=options.precision)
    sigma = options.sigma or 0.0
    given = {key: getattr(options, key) for key in ("eta", "eta_b", "floor", "official")}
    if not sigma and options.floor is None:
        given["floor"] = FLOOR
    chosen = {key: value for key, value in given.items() if value is not None}
    estimate = _estimate(options)
    steps = options.steps or (MEAN_STEPS if estimate == "mean" else prior.steps)
    settings = DDRMSettings(steps=steps, estimate=estimate, **chosen)
    return DDRM(prior, problem, sigma, settings)


def _estimate(options: argparse.Namespace) -> Literal["mean", "sample"]:
    """What to estimate: as chosen, or else a sample where an option is of samples only."""
    of_samples = [key for key in OF_SAMPLES if vars(options).get(key) is not None]
    if options.estimate == "mean" and of_samples:
        raise ConfigError(
            f"--estimate: {option_name(of_samples[0])} is for random samples; use sample, or leave "
            "one of the two options out"
        )
    return options.estimate or ("sample" if of_samples else "mean")


def _problem(options: argparse.Namespace) -> Problem:
    """The inverse problem that the options describe."""
    from refusion.restorers.ddrm import problems

    task = options.task or TASKS[0]
    reduced = re.fullmatch(r"sr(\d+)(mean)?", task)
    if not reduced and task not in TASKS:
        raise ConfigError(f"--task: unknown degradation '{task}'{suggest(task, TASKS)}")
    for owner, key in _NEEDS.items():
        is_given = bool(getattr(options, key))  # noise of 0 counts as not given
        if task == owner and not is_given:
            problem = "expected above 0, got 0" if getattr(options, key) == 0 else "missing"
            raise ConfigError(f"--{key}: {problem}; --method ddrm --task {task} needs it")
        if is_given and task != owner and key not in _SHARED:
            raise ConfigError(f"--{key}: --task {task} does not use it")
    if reduced:
        return problems.super_resolution(int(reduced[1]), "mean" if reduced[2] else "bicubic")
    if task == "inpaint":
        return problems.inpaint(_mask(options.mask))
    if task == "deblur":
        return _deblur(options.kernel)
    return {
        "colorize": problems.colorize, "denoise": problems.denoise, "cs": problems.compressed
    }[task]()  # fmt: skip


def _mask(path: Path) -> Any:
    """Known pixels of the photo, bool (H, W)."""
    from refusion.images.io import read_image

    kept = read_image(path).image.mean(dim=0) >= 0.5
    if not kept.any():
        raise ConfigError(f"--mask: {path} is black, so no pixel of the photo is known")
    return kept


def _deblur(text: str) -> Problem:
    """Deblurring with a kernel given as gauss:SIGMA or as an image file."""
    from refusion.images.io import read_image
    from refusion.restorers.ddrm import problems

    if text.startswith("gauss:"):
        try:
            sigma = finite_number(text.removeprefix("gauss:"))
        except argparse.ArgumentTypeError:
            raise ConfigError(f"--kernel: expected gauss:2.0 or a file, got '{text}'") from None
        return problems.gaussian_deblur(sigma)
    kernel = read_image(text).image.mean(dim=0)
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        size = "x".join(map(str, reversed(kernel.shape)))
        raise ConfigError(f"--kernel: {text} is {size}; both sides must be odd")
    if not kernel.any():
        raise ConfigError(f"--kernel: {text} is black; a kernel needs a sum above 0")
    return problems.deblur(kernel / kernel.sum())


def _level(text: str) -> float:
    """Option type: a noise level from 0 to 1."""
    try:
        return share(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected 0..1 of full scale, e.g. 0.05, got '{text}'"
        ) from None
