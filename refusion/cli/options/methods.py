"""`--method`: ways of restoring that are no model of this project, each with options of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from refusion.cli.options import ddrm, diffbir, osediff
from refusion.cli.options.model import option_name
from refusion.errors import ConfigError

DEFAULT = "refusion"
METHODS = {
    DEFAULT: (),
    "ddrm": ddrm.OWN,
    "diffbir": diffbir.OWN,
    "osediff": osediff.OWN,
}
"""Keys of the options that only these methods use."""


def add_method_option(add: Callable[..., argparse.Action]) -> None:
    """Add `--method`."""
    add(
        "--method",
        choices=METHODS,
        default=DEFAULT,
        help="ddrm: undo a known degradation, --task sr4 (sr2, sr8, sr4mean), inpaint, colorize, "
        "deblur, denoise or cs, with a prior trained for none of them (--weights: a checkpoint of "
        "stage prior, or the folder of a diffusers DDPM; default: the one that ships); diffbir, "
        "osediff: degradations of unknown kind, --task blind, with a Stable Diffusion from disk "
        "(--sd, and --control or --lora), in many steps or in one",
    )


def refuse_other_options(options: argparse.Namespace) -> None:
    """Refuse what only other methods than the chosen one use.

    Raises:
        ConfigError: names the option.
    """
    for key in dict.fromkeys(key for own in METHODS.values() for key in own):
        users = [method for method, own in METHODS.items() if key in own]
        if vars(options)[key] is not None and options.method not in users:
            raise ConfigError(f"{option_name(key)}: only --method {' or '.join(users)} uses it")
