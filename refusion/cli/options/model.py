"""Options of all commands that restore with a model: the model, sampling and conditions."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.log_lines import LineFormatter
from refusion.cli.options.noise import add_noise_option, noise_std_of
from refusion.cli.options.plugins import add_plugin_option
from refusion.cli.options.values import count, finite_number, integer, option_name
from refusion.config.plugins import import_allowed_plugins
from refusion.errors import ConfigError, suggest

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.checkpoint import Checkpoint
    from refusion.restorers.base import Conditions, RestorerInfo

DEFAULT_TASK = "dehaze"
_DEVICES = ("auto", "cpu", "cuda")
_CONDITIONS = {  # field of `Conditions`: keys of its options
    "noise_std": ("noise_level",),
    "lens": ("from", "to", "disparity"),
}
CONDITION_OPTIONS = tuple(option for options in _CONDITIONS.values() for option in options)
"""Keys of the options that give conditions of the photos."""


def add_model_options(parser: argparse.ArgumentParser, task: str | None = None) -> None:
    """Add the options of the model, of sampling and of the conditions.

    Args:
        parser: parser of the command.
        task: task that the command names, which has no option then; None for all.
    """
    add = parser.add_argument
    if task is None:
        add("--task", help=f"use the default weights of this task (default: {DEFAULT_TASK})")
    parser.set_defaults(task=task)
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="use these weights: a .safetensors file, or a folder with config.json and "
        "model.safetensors",
    )
    add_plugin_option(add)
    add("--steps", type=count, metavar="N", help="sampling steps (default: set by the model)")
    add(
        "--sampler",
        metavar="NAME",
        help="posterior, ode-data-2, sde-data-2@log_snr, ... (default: set by the model); all "
        "names: docs/using.md",
    )
    add("--seed", type=integer, default=0, metavar="N", help="seed of the noise (default: 0)")
    add(
        "--tile",
        type=_tile_side,
        default="auto",
        metavar="PX|auto",
        help="side of the tiles; smaller tiles need less memory; with a latent model, the tiles do "
        "not change the result (default: auto)",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda", help="default: a GPU if available")
    add(
        "--precision",
        default="auto",
        metavar="auto|fp32|bf16|fp16",
        help="number format of the networks (default: bf16 if it is fast on the hardware)",
    )
    _add_condition_options(parser)


def _add_condition_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_noise_option(add)
    add("--from", metavar="LENS", help="lens of the photos, e.g. Sony50mmf1.8BS (bokeh models)")
    add("--to", metavar="LENS", help="lens to imitate, e.g. Canon50mmf1.4BS (bokeh models)")
    add(
        "--disparity",
        type=_number_or_path,
        metavar="FILE|DIR|NUMBER",
        help="disparity map of the photo, brighter is nearer, or a folder of maps with the names "
        "of the photos (default: the depth map inside the photo, as phones write it for "
        "portraits); published bokeh models take the number in meta.txt of the bokeh data",
    )


def _number_or_path(text: str) -> float | Path:
    """Option type: a finite number, else a path."""
    try:
        return finite_number(text)
    except argparse.ArgumentTypeError:
        return Path(text)


def _tile_side(text: str) -> int | str:
    """Option type: 'auto' or pixels from 1."""
    return text if text == "auto" else count(text)


def check_device(name: str) -> None:
    """Check the name of a device before PyTorch is imported, which knows the devices there are.

    Raises:
        ConfigError: the name is unknown.
    """
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name) is None:
        raise ConfigError(f"--device: unknown device '{name}'{suggest(name, _DEVICES)}")


def check_sampler(name: str | None) -> None:
    """Check the name of a sampler before a model is loaded.

    The plug-ins that are allowed are imported first, because they may define it.

    Args:
        name: name of the sampler; None is accepted.

    Raises:
        ConfigError: the sampler is unknown, or REFUSION_PLUGINS names what cannot be imported.
    """
    from refusion.sde import find_sampler

    if name is not None:
        import_allowed_plugins()
        try:
            find_sampler(name)
        except ConfigError as error:
            raise ConfigError(f"--{error}") from None


def chosen_checkpoint(options: argparse.Namespace) -> Checkpoint:
    """Read the checkpoint named by --weights, or by --task without --weights.

    Logs a warning if the weights belong to another task.

    Raises:
        CheckpointError: the weights do not exist or cannot be used.
    """
    from refusion.checkpoint import read_checkpoint
    from refusion.weights import find_weights

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
    """Conditions for all photos from the options; those that the restorer needs or can use.

    Args:
        options: parsed options.
        info: description of the restorer.

    Raises:
        ConfigError: an option is missing, is not used or names an unknown lens, or the model needs
            a condition that options cannot give.
    """
    import torch

    from refusion.optics.lens import lens_number
    from refusion.restorers.base import Conditions

    values = vars(options)
    if "guide" in info.needs:
        raise ConfigError(
            f"the '{info.task}' model needs the defocus of every pixel as a condition, which pairs "
            "of photos do not have; evaluate it on rendered photos, with -opt"
        )
    if isinstance(options.disparity, Path) and "lens" in info.needs:
        raise ConfigError(
            f"--disparity: the '{info.task}' model takes a number, as in meta.txt of the bokeh "
            f"data, not a map, got '{options.disparity}'"
        )
    for need, names in _CONDITIONS.items():
        if need not in info.optional:
            _check_given(values, names, info.task, is_used=need in info.needs)
    noise_std, lens = noise_std_of(options), None
    if "lens" in info.needs:
        lenses = (lens_number(values[option]) for option in ("from", "to"))
        lens = torch.tensor([*lenses, options.disparity])
    return Conditions(lens, noise_std)


def _check_given(
    values: Mapping[str, object], options: tuple[str, ...], task: str, *, is_used: bool
) -> None:
    """Check that options are given if, and only if, the model uses them."""
    wrong = [option_name(option) for option in options if (values[option] is None) == is_used]
    if wrong and is_used:
        raise ConfigError(
            f"{', '.join(wrong)}: missing; the '{task}' model needs the value, see --help"
        )
    if wrong:
        raise ConfigError(f"{wrong[0]}: the '{task}' model does not use it")


@contextlib.contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Show warnings of the package as single lines on stderr, above a progress bar."""
    handler, logger = _StderrLines(logging.WARNING), logging.getLogger("refusion")
    handler.setFormatter(LineFormatter())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _StderrLines(logging.Handler):
    """Writes each log record as one line to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        from tqdm import tqdm

        line = f"refusion: {record.levelname.lower()}: {self.format(record)}"
        tqdm.write(line, file=sys.stderr)
