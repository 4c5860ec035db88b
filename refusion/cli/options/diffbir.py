"""Options of `--method diffbir`: its files, and the balance between fidelity and realism."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.options.stable_diffusion import SHARED, TASK, check_sd_options
from refusion.cli.options.values import positive, share
from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.restorers import DiffBIR, Restorer

OWN = (*SHARED, "control", "stage1", "fidelity", "cfg", "negative_prompt", "start")
"""Keys of the options of the method."""
_NO_STAGE1 = "none"


def add_diffbir_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options that only this method has."""
    add(
        "--control",
        type=Path,
        metavar="FILE",
        help="DiffBIR's IRControlNet: v2.pth or a trained file",
    )
    add(
        "--stage1",
        metavar="FILE|none",
        help="model that removes the degradation first: a .safetensors file of the task blind "
        "(default: the shipped one); none for photos without degradation",
    )
    add("--fidelity", type=share, metavar="0..1", help="0 (default): the model generates "
        "detail; 1: the result of stage 1")  # fmt: skip
    add(
        "--cfg",
        type=positive,
        metavar="N",
        help="guidance scale of the prompts; 1: no guidance (default: 4)",
    )
    add("--negative-prompt", metavar="TEXT", help="text of what the photo does not show")
    add("--start", choices=("noise", "photo"), help="initial state of sampling (default: noise)")


def chosen_diffbir(options: argparse.Namespace, device: Any) -> DiffBIR:
    """Make the restorer that the options describe.

    Args:
        options: parsed options.
        device: torch device of the networks.

    Raises:
        RefusionError: a file is missing or cannot be used, or an option is wrong or not used.
    """
    from refusion.restorers import DiffBIR
    from refusion.restorers.diffbir import DiffBIRSettings
    from refusion.stable_diffusion import load_stable_diffusion
    from refusion.stable_diffusion.control import SOURCE, load_control
    from refusion.stable_diffusion.folder import SOURCE as FOLDER

    needed = {"sd": ("DIR", FOLDER), "control": ("FILE", SOURCE)}
    check_sd_options(options, needed, "--stage1 and --control")
    given = {
        key: vars(options)[key]
        for key in ("steps", "sampler", "fidelity", "cfg", "prompt", "negative_prompt", "start",
                    "color_fix")
        if vars(options)[key] is not None
    }  # fmt: skip
    settings = DiffBIRSettings(**given)
    stage1 = _stage1(options, device)
    sd = load_stable_diffusion(options.sd, device=device, precision=options.precision)
    control = load_control(options.control, sd)
    return DiffBIR(sd, control, stage1, settings, options.upscale or 1)


def _stage1(options: argparse.Namespace, device: Any) -> Restorer | None:
    from refusion.errors import CheckpointError
    from refusion.restorers import load_restorer
    from refusion.weights import find_weights

    if options.stage1 == _NO_STAGE1:
        return None
    try:
        path = find_weights(options.stage1 or TASK)
    except CheckpointError as error:
        raise ConfigError(
            f"--stage1: {error}; give a .safetensors file trained with "
            f"options/diffbir_stage1.yml, or --stage1 {_NO_STAGE1} for photos that are only blurred"
        ) from None
    return load_restorer(path, device=device, precision=options.precision)
