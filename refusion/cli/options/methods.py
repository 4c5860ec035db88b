"""The option `--method`: restoration methods besides Refusion, each with its own options."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from refusion.cli.options import ddrm, diffbir, osediff
from refusion.cli.options.values import option_name
from refusion.errors import ConfigError

DEFAULT = "refusion"
METHODS = {
    DEFAULT: (),
    "ddrm": ddrm.OWN,
    "diffbir": diffbir.OWN,
    "osediff": osediff.OWN,
}
"""Methods, and the keys of the options that only some methods use."""


def add_method_option(add: Callable[..., argparse.Action]) -> None:
    """Add `--method`."""
    add(
        "--method",
        choices=METHODS,
        default=DEFAULT,
        help="ddrm: known degradations, --task sr4 (sr2, sr8, sr4mean), inpaint, colorize, deblur, "
        "denoise or cs, with a prior that was not trained for them (--weights: a denoising model, "
        "a checkpoint of stage prior, or the folder of a diffusers DDPM; default: the shipped "
        "denoising model); diffbir (many steps) and osediff (one step): unknown degradations, "
        "--task blind, with a local Stable Diffusion (--sd, and --control or --lora)",
    )


def refuse_other_options(options: argparse.Namespace) -> None:
    """Check that no option of another method than the chosen one is given.

    Raises:
        ConfigError: an option of another method is given; the message names it.
    """
    for key in dict.fromkeys(key for own in METHODS.values() for key in own):
        users = [method for method, own in METHODS.items() if key in own]
        if vars(options)[key] is not None and options.method not in users:
            raise ConfigError(f"{option_name(key)}: only --method {' or '.join(users)} uses it")
