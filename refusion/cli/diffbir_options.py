"""Options of `--method diffbir`: the files it is made of, and fidelity against realism."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.model_options import TOLD, count, option_name, positive, share
from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.restorers import DiffBIR, Restorer

TASK = "blind"
OWN = (
    "sd", "control", "stage1", "fidelity", "cfg", "prompt", "negative_prompt", "start", "color_fix",
    "upscale",
)  # fmt: skip
"""Options of the method, by their keys."""
_NO_STAGE1 = "none"
_UNUSED = (*TOLD, "max_memory", "weights")


def add_diffbir_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options of what is built on a Stable Diffusion."""
    add("--sd", type=Path, metavar="DIR", help="Stable Diffusion 2.1 in the layout of diffusers")
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
    add("--prompt", metavar="TEXT", help="what is to be seen")
    add("--negative-prompt", metavar="TEXT", help="what is not")
    add("--start", choices=("noise", "photo"), help="of the drawing (default: noise)")
    add(
        "--color-fix",
        choices=("wavelet", "adain", "none"),
        help="colours after those of stage 1 (default: wavelet)",
    )
    add("--upscale", type=count, metavar="N", help="enlarge the photos N times (default: 1)")


def chosen_diffbir(options: argparse.Namespace, device: Any) -> DiffBIR:
    """Make the restorer that the options describe.

    Raises:
        RefusionError: a file is missing or cannot be used, or an option is wrong or of no use.
    """
    for key in _UNUSED:
        if vars(options)[key] is not None:
            hint = "; see --stage1 and --control" if key == "weights" else ""
            raise ConfigError(f"{option_name(key)}: --method diffbir does not use it{hint}")
    if options.task not in (None, TASK):
        raise ConfigError(f"--task: --method diffbir restores '{TASK}', got '{options.task}'")
    _check_given(options)
    from refusion.restorers import DiffBIR
    from refusion.restorers.diffbir import DiffBIRSettings
    from refusion.stable_diffusion import load_stable_diffusion
    from refusion.stable_diffusion.control import load_control

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


def _check_given(options: argparse.Namespace) -> None:
    """Say of all files that are missing what they are and where they come from."""
    from refusion.stable_diffusion.control import SOURCE as CONTROL
    from refusion.stable_diffusion.folder import SOURCE as FOLDER

    sources = {"sd": ("DIR", FOLDER), "control": ("FILE", CONTROL)}
    missing = [
        f"--{key} {kind} ({source})"
        for key, (kind, source) in sources.items()
        if vars(options)[key] is None
    ]
    if missing:
        raise ConfigError(
            f"--method diffbir needs {' and '.join(missing)}; put them anywhere, such as in "
            "models/, and name the paths"
        )


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
