"""Options of `--method osediff`: one step of a Stable Diffusion with LoRA adapters."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.options.stable_diffusion import SHARED, check_sd_options

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.restorers import OSEDiff

OWN = (*SHARED, "lora", "merge")
"""Keys of the options of the method."""


def add_osediff_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options that only this method has."""
    add(
        "--lora",
        type=Path,
        metavar="FILE",
        help="OSEDiff's adapters: osediff.pkl or a trained file",
    )
    add(
        "--merge",
        action="store_true",
        default=None,
        help="merge the adapters into the weights: the same result in less time",
    )


def chosen_osediff(options: argparse.Namespace, device: Any) -> OSEDiff:
    """Make the restorer that the options describe.

    Args:
        options: parsed options.
        device: torch device of the networks.

    Raises:
        RefusionError: a file is missing or cannot be used, or an option is wrong or not used.
    """
    from refusion.restorers.osediff.restorer import load_osediff
    from refusion.restorers.osediff.weights import SOURCE
    from refusion.stable_diffusion.folder import SOURCE as FOLDER

    check_sd_options(options, {"sd": ("DIR", FOLDER), "lora": ("FILE", SOURCE)}, "--lora")
    given = {key: vars(options)[key] for key in ("upscale", "prompt", "color_fix", "merge")}
    return load_osediff(
        options.sd,
        options.lora,
        device=device,
        precision=options.precision,
        **{key: value for key, value in given.items() if value is not None},
    )
