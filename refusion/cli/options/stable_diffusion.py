"""Options that all methods on a Stable Diffusion share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from refusion.cli.options.model import CONDITION_OPTIONS, count, option_name
from refusion.errors import ConfigError

TASK = "blind"
SHARED = ("sd", "prompt", "prompts", "color_fix", "upscale")
"""Their keys."""
_UNUSED = (*CONDITION_OPTIONS, "max_memory", "weights")


def add_sd_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options."""
    add("--sd", type=Path, metavar="DIR", help="Stable Diffusion 2.1 in the layout of diffusers")
    add("--prompt", metavar="TEXT", help="what is to be seen")
    add("--prompts", type=Path, metavar="DIR", help="the same in NAME.txt for each photo NAME.*")
    add(
        "--color-fix",
        choices=("wavelet", "adain", "none"),
        help="colours after those of the photo (default: adain; diffbir: wavelet)",
    )
    add("--upscale", type=count, metavar="N", help="enlarge the photos N times (default: 1)")


def check_sd_options(
    options: argparse.Namespace, needed: Mapping[str, tuple[str, str]], instead: str
) -> None:
    """Refuse options of no use, and say of all files that are missing where they come from.

    Args:
        options: parsed.
        needed: by key, what kind of path it is, and what is to lie there.
        instead: what names the method's weights in the place of --weights.

    Raises:
        ConfigError: names the options.
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
        raise ConfigError("--prompt, --prompts: give one of them")
    missing = [
        f"{option_name(key)} {kind} ({source})"
        for key, (kind, source) in needed.items()
        if vars(options)[key] is None
    ]
    if missing:
        raise ConfigError(
            f"--method {options.method} needs {' and '.join(missing)}; put them anywhere, such as "
            "in models/, and name the paths"
        )
