"""Options of every command that restores with a model: which model, and how it samples."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.options.plugins import add_plugin_option
from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.checkpoint import Checkpoint
    from refusion.restorers.base import Conditions, RestorerInfo

DEFAULT_TASK = "dehaze"
_SAID = {
    "noise_std": ("noise_level",),
    "lens": ("from", "to", "disparity"),
}  # by field of `Conditions`
CONDITION_OPTIONS = tuple(option for options in _SAID.values() for option in options)
"""Options that say something of the photos, by their keys."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model, of sampling and of what the model is told of the photos."""
    add = parser.add_argument
    add("--task", help=f"use the default weights of this task (default: {DEFAULT_TASK})")
    add("--weights", type=Path, metavar="FILE", help="use these weights, a .safetensors file")
    add_plugin_option(add)
    add("--steps", type=count, metavar="N", help="sampling steps (default: the model's)")
    add(
        "--sampler",
        metavar="NAME",
        help="posterior, ode-data-2, sde-data-2@log_snr, ... (default: the model's); all names: "
        "docs/using.md",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the noise (default: 0)")
    add(
        "--tile",
        type=_tile_side,
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
    _add_condition_options(parser)


def _add_condition_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--noise-level",
        type=_number,
        metavar="SIGMA",
        help="standard deviation of the photos' noise in 8-bit levels (denoising models)",
    )
    add("--from", metavar="LENS", help="lens of the photos, as Sony50mmf1.8BS (bokeh models)")
    add("--to", metavar="LENS", help="lens to imitate, as Canon50mmf1.4BS (bokeh models)")
    add(
        "--disparity",
        type=_number_or_path,
        metavar="FILE|DIR|NUMBER",
        help="map of the photo in which brighter is nearer, or a folder of maps named like the "
        "photos; published bokeh models take the number in meta.txt of the bokeh data",
    )


def count(text: str) -> int:
    """Option type: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


def whole(text: str) -> int:
    """Option type: a whole number from 0."""
    return 0 if text == "0" else count(text)


def share(text: str) -> float:
    """Option type: a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return value


def positive(text: str) -> float:
    """Option type: a number above 0."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return value


def _number_or_path(text: str) -> float | Path:
    """Option type: a finite number, else a path."""
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        return Path(text)


def _number(text: str) -> float:
    """Option type: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got '{text}'")
    return value


def _tile_side(text: str) -> int | str:
    """Option type: 'auto' or pixels from 1."""
    return text if text == "auto" else count(text)


def option_name(key: str) -> str:
    """The option as the user writes it, of its key in the parsed options."""
    return f"--{key.replace('_', '-')}"


def check_sampler(name: str | None) -> None:
    """Refuse a wrong name before a model is loaded and a photo decoded.

    Raises:
        ConfigError: no such sampler.
    """
    from refusion.sde import find_sampler

    if name is not None:
        try:
            find_sampler(name)
        except ConfigError as error:
            raise ConfigError(f"--{error}") from None


def chosen_checkpoint(options: argparse.Namespace) -> Checkpoint:
    """Read the model that --weights, else --task names.

    Logs a warning where the two disagree.

    Raises:
        CheckpointError: there are no such weights or they cannot be used.
    """
    from refusion.checkpoint import find_weights, read_checkpoint

    if options.weights:
        path = find_weights(options.weights)
    else:
        path = find_weights(options.task or DEFAULT_TASK, steps=options.steps)
    checkpoint = read_checkpoint(path)
    task = checkpoint.model.task
    if options.weights and options.task not in (None, task):
        logging.getLogger(__name__).warning(
            "%s was trained for the task '%s', not '%s'", options.weights, task, options.task
        )
    return checkpoint


def photo_conditions(options: argparse.Namespace, info: RestorerInfo) -> Conditions:
    """What the options say of every photo: all that the restorer needs, and nothing else.

    Raises:
        ConfigError: something is missing, not used or no lens, or differs from photo to photo.
    """
    import torch

    from refusion.optics.lens import lens_number
    from refusion.restorers.base import Conditions

    said = vars(options)
    if "guide" in info.needs:
        raise ConfigError(
            f"the '{info.task}' model must be told of every pixel how far it is out of focus, "
            "which pairs of photos do not say; measure it on rendered ones, with -opt"
        )
    if isinstance(options.disparity, Path) and "lens" in info.needs:
        raise ConfigError(
            f"--disparity: the '{info.task}' model takes a number, as in meta.txt of the bokeh "
            f"data, and no map, got '{options.disparity}'"
        )
    for need, names in _SAID.items():
        _check_said(said, names, info.task, is_used=need in info.needs)
    noise_std = lens = None
    if "noise_std" in info.needs:
        noise_std = options.noise_level / 255  # from 8-bit levels
    if "lens" in info.needs:
        lenses = (lens_number(said[option]) for option in ("from", "to"))
        lens = torch.tensor([*lenses, options.disparity])
    return Conditions(lens, noise_std)


def _check_said(
    said: Mapping[str, object], options: tuple[str, ...], task: str, *, is_used: bool
) -> None:
    """Refuse options that are missing where the model uses them, or there where it does not."""
    wrong = [option_name(option) for option in options if (said[option] is None) == is_used]
    if wrong and is_used:
        raise ConfigError(
            f"{', '.join(wrong)}: missing; the '{task}' model must be told, see --help"
        )
    if wrong:
        raise ConfigError(f"{wrong[0]}: the '{task}' model does not use it")


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
