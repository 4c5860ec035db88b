"""Options of `--method diffbir`: the files it is made of, and fidelity against realism."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.options.model import positive, share
from refusion.cli.options.stable_diffusion import SHARED, TASK, check_sd_options
from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.restorers import DiffBIR, Restorer

OWN = (*SHARED, "control", "stage1", "fidelity", "cfg", "negative_prompt", "start")
"""Options of the method, by their keys."""
_NO_STAGE1 = "none"


def add_diffbir_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options that no other method has."""
    add("--control", type=Path, metavar="FILE", help="DiffBIR's IRControlNet: v2.pth, or trained")
    add(
        "--stage1",
        metavar="FILE|none",
        help="what removes the degradation first: a .safetensors file of blind restoration "
        "(default: the shipped one); none for photos without",
    )
    add("--fidelity", type=share, metavar="0..1", help="0 (default): detail is the model's to "
        "invent; 1: the result of stage 1")  # fmt: skip
    add("--cfg", type=positive, metavar="N", help="weight of the prompts; 1 is none (default: 4)")
    add("--negative-prompt", metavar="TEXT", help="what is not")
    add("--start", choices=("noise", "photo"), help="of the drawing (default: noise)")


def chosen_diffbir(options: argparse.Namespace, device: Any) -> DiffBIR:
    """Make the restorer that the options describe.

    Raises:
        RefusionError: a file is missing or cannot be used, or an option is wrong or of no use.
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
    from refusion.checkpoint import find_weights
    from refusion.errors import CheckpointError
    from refusion.restorers import load_restorer

    if options.stage1 == _NO_STAGE1:
        return None
    try:
        path = find_weights(options.stage1 or TASK)
    except CheckpointError as error:
        raise ConfigError(
            f"--stage1: {error}; give a .safetensors file, as options/diffbir_stage1.yml trains, "
            f"or --stage1 {_NO_STAGE1} for photos that are only soft"
        ) from None
    return load_restorer(path, device=device, precision=options.precision)
