"""The option of denoising models: the noise level of the photos."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from refusion.cli.options.values import finite_number


def add_noise_option(add: Callable[..., argparse.Action]) -> None:
    """Add `--noise-level`.

    Args:
        add: method `add_argument` of a parser or of a group.
    """
    add(
        "--noise-level",
        type=_noise_level,
        metavar="SIGMA|auto",
        help="standard deviation of the photos' noise in 8-bit levels (denoising models; default: "
        "auto, estimated for each photo)",
    )


def noise_std_of(options: argparse.Namespace) -> float | None:
    """The noise level in [0, 1] units; None if it is not given or is estimated.

    Args:
        options: parsed options.
    """
    level = options.noise_level
    return None if level in (None, "auto") else level / 255  # from 8-bit levels


def _noise_level(text: str) -> float | str:
    """Option type: 'auto' or a finite number."""
    return text if text == "auto" else finite_number(text)
