"""Options of `--method osediff`: one call of a Stable Diffusion with adapters."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.options.stable_diffusion import SHARED, check_sd_options

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.restorers import OSEDiff

OWN = (*SHARED, "lora", "merge")
"""Options of the method, by their keys."""


def add_osediff_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options that no other method has."""
    add("--lora", type=Path, metavar="FILE", help="OSEDiff's adapters: osediff.pkl, or trained")
    add(
        "--merge",
        action="store_true",
        default=None,
        help="add the adapters to the weights: the same result in less time",
    )


def chosen_osediff(options: argparse.Namespace, device: Any) -> OSEDiff:
    """Make the restorer that the options describe.

    Raises:
        RefusionError: a file is missing or cannot be used, or an option is wrong or of no use.
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
