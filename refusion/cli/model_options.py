"""Options of every command that restores with a model: which model, and how it samples."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports torch, for which --help must not wait
    from refusion.restorers.base import Restorer

DEFAULT_TASK = "dehaze"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --task, --weights, --steps, --sampler, --seed, --tile, --device and --precision."""
    add = parser.add_argument
    add("--task", help=f"use the default weights of this task (default: {DEFAULT_TASK})")
    add("--weights", type=Path, metavar="FILE", help="use these weights, a .safetensors file")
    add("--steps", type=count, metavar="N", help="sampling steps (default: the model's)")
    add("--sampler", metavar="NAME", help="posterior, ode or euler (default: the model's)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the noise (default: 0)")
    add(
        "--tile",
        type=tile_side,
        default="auto",
        metavar="PX|auto",
        help="side of the tiles; smaller needs less memory, and with a latent model does not "
        "change the result (default: auto)",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda", help="default: a GPU if there is one")
    add(
        "--precision",
        default="auto",
        metavar="auto|fp32|bf16|fp16",
        help="number format of the networks (default: bf16 where the hardware is fast at it)",
    )


def count(text: str) -> int:
    """Option type: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


def tile_side(text: str) -> int | str:
    """Option type: 'auto' or pixels from 1."""
    return text if text == "auto" else count(text)


def check_sampler(name: str | None) -> None:
    """Refuse a wrong name before a model is loaded and a photo decoded.

    Raises:
        ConfigError: no such sampler.
    """
    from refusion.errors import ConfigError, suggest
    from refusion.sde import SAMPLERS

    if name is not None and name not in SAMPLERS:
        raise ConfigError(f"--sampler: unknown sampler {name!r}{suggest(name, SAMPLERS)}")


def load_chosen(options: argparse.Namespace) -> Restorer:
    """Load the model that --weights, else --task names; warn where the two disagree.

    Raises:
        CheckpointError: there are no such weights or they cannot be used.
        ConfigError: device or precision unknown or not to be had.
    """
    from refusion.restorers import load_restorer

    chosen = options.weights or options.task or DEFAULT_TASK
    restorer = load_restorer(chosen, device=options.device, precision=options.precision)
    task = restorer.info.task
    if options.weights and options.task not in (None, task):
        logging.getLogger(__name__).warning(
            "%s was trained for the task '%s', not '%s'", options.weights, task, options.task
        )
    return restorer


@contextlib.contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Show logged warnings of the package as single lines above a progress bar."""
    handler, logger = _StderrLines(logging.WARNING), logging.getLogger("refusion")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _StderrLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        from tqdm import tqdm

        line = " ".join(record.getMessage().split())
        tqdm.write(f"refusion: {record.levelname.lower()}: {line}", file=sys.stderr)
