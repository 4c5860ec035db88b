"""Options of all methods on a Stable Diffusion."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from refusion.cli.options.model import CONDITION_OPTIONS
from refusion.cli.options.values import count, option_name
from refusion.errors import ConfigError

TASK = "blind"
SHARED = ("sd", "prompt", "prompts", "color_fix", "upscale")
"""Keys of these options."""
_UNUSED = (*CONDITION_OPTIONS, "weights")


def add_sd_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options of all methods on a Stable Diffusion."""
    add("--sd", type=Path, metavar="DIR", help="Stable Diffusion 2.1 in the layout of diffusers")
    add("--prompt", metavar="TEXT", help="text of what the photo shows")
    add(
        "--prompts",
        type=Path,
        metavar="DIR",
        help="folder of prompts, NAME.txt for each photo NAME.*",
    )
    add(
        "--color-fix",
        choices=("wavelet", "adain", "none"),
        help="method to match the colours of the photo (default: adain; diffbir: wavelet)",
    )
    add("--upscale", type=count, metavar="N", help="enlarge the photos N times (default: 1)")


def check_sd_options(
    options: argparse.Namespace, needed: Mapping[str, tuple[str, str]], instead: str
) -> None:
    """Check the options of a method on a Stable Diffusion.

    Args:
        options: parsed options.
        needed: for the key of each required path, its metavar and a description of its content.
        instead: options that give the method's weights instead of --weights.

    Raises:
        ConfigError: an option is not used by the method, or a required path is missing; the message
            says where to get the files.
    """
    for key in _UNUSED:
        if vars(options)[key] is not None:
            hint = f"; see {instead}" if key == "weights" else ""
            raise ConfigError(
                f"{option_name(key)}: --method {options.method} does not use it{hint}"
            )
    if options.task not in (None, TASK):
        raise ConfigError(
            f"--task: --method {options.method} restores '{TASK}', got '{options.task}'"
        )
    if options.prompt is not None and options.prompts is not None:
        raise ConfigError("--prompt, --prompts: give only one of them")
    missing = [
        f"{option_name(key)} {kind} ({source})"
        for key, (kind, source) in needed.items()
        if vars(options)[key] is None
    ]
    if missing:
        raise ConfigError(
            f"--method {options.method} needs {' and '.join(missing)}; put the files in any "
            "folder, for example models/, and give the paths"
        )
