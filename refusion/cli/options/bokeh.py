"""Options of a bokeh model that is told by a disparity map where a photo is out of focus."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.options.model import option_name, positive
from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.batch.disparity_maps import DisparityMaps
    from refusion.restorers.base import RestorerInfo

_OPTIONS = ("blur", "focus", "zero_unknown")
_LENSES = ("from", "to")


def add_bokeh_options(add: Callable[..., argparse.Action]) -> None:
    """Add what goes with `--disparity FILE`."""
    add(
        "--focus",
        type=_point,
        metavar="X,Y",
        help="point in focus, in parts 0..1 of width and height (default: what only a tenth of "
        "the map is nearer than)",
    )
    add(
        "--blur",
        type=positive,
        metavar="PX",
        help="radius of the largest discs at f/1.8 (default: 0.012 of the photo's long side)",
    )
    add(
        "--zero-unknown",
        action="store_true",
        default=None,
        help="0 in the map means not measured, and is filled from what is around",
    )


def disparity_maps(
    options: argparse.Namespace, info: RestorerInfo, photos: int
) -> DisparityMaps | None:
    """The maps for a model that is told where a photo is out of focus; None for other models.

    Args:
        options: of the command.
        info: of the restorer.
        photos: how many there are.

    Raises:
        ConfigError: an option is missing, or there for a model that does not use it.
    """
    said = vars(options)
    if "guide" not in info.needs:
        for key in _OPTIONS:
            if said[key] is not None:
                raise ConfigError(f"{option_name(key)}: the '{info.task}' model does not use it")
        return None
    from refusion.batch.disparity_maps import DisparityMaps
    from refusion.optics.lens import lens_number

    place = _place(options.disparity, info.task, photos)
    missing = [option_name(key) for key in _LENSES if said[key] is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: missing; name the lens, as Canon50mmf1.4BS")
    source, target = (lens_number(said[key]) for key in _LENSES)
    unknown = bool(options.zero_unknown)
    return DisparityMaps(place, source, target, options.blur, options.focus, unknown)


def _place(given: Path | float | None, task: str, photos: int) -> Path:
    if given is None:
        raise ConfigError(
            f"--disparity: missing; the '{task}' model estimates no depth: give a map FILE (or a "
            "folder of maps named like the photos) in which brighter is nearer, measured, painted, "
            "or made by a depth estimator"
        )
    if not isinstance(given, Path):
        raise ConfigError(
            f"--disparity: the '{task}' model takes a map FILE, brighter is nearer, not the number "
            f"{given:g}; how strong the blur is says --blur"
        )
    if not given.exists():
        raise ConfigError(f"--disparity: no such file or folder: {given}")
    if photos > 1 and not given.is_dir():
        raise ConfigError(
            f"--disparity: one map for {photos} photos; give a folder of maps named like them"
        )
    return given


def _point(text: str) -> tuple[float, float]:
    """Option type: two numbers from 0 to 1."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise argparse.ArgumentTypeError(f"expected X,Y from 0 to 1, as 0.5,0.6, got '{text}'")
    return x, y
