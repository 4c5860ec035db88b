"""Options of a bokeh model that is conditioned on a disparity map of the photo."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.options.model import finite_number, option_name, positive
from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.batch.disparity_maps import DisparityMaps
    from refusion.restorers.base import RestorerInfo

_OPTIONS = ("aperture", "blur", "focus", "zero_unknown")
SHARP = "Sony50mmf16.0BS"  # the lens of a photo that is sharp from front to back


def add_bokeh_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options that are used with `--disparity FILE`."""
    add(
        "--aperture",
        type=_aperture,
        metavar="F",
        help="f-number of the lens to imitate, e.g. 1.8; short for --to Canon50mmf1.8BS",
    )
    add(
        "--focus",
        type=_point,
        metavar="X,Y",
        help="point in focus, as fractions 0..1 of width and height (default: the depth with a "
        "tenth of the map in front of it)",
    )
    add(
        "--blur",
        type=positive,
        metavar="PX",
        help="radius of the largest blur discs at f/1.8 (default: 0.012 of the long side)",
    )
    add(
        "--zero-unknown",
        action="store_true",
        default=None,
        help="0 in the map means not measured; it is filled from the surrounding values",
    )


def disparity_maps(
    options: argparse.Namespace, info: RestorerInfo, photos: int
) -> DisparityMaps | None:
    """The disparity maps for a model that needs a guide; None for other models.

    Args:
        options: parsed options.
        info: description of the restorer.
        photos: number of photos.

    Raises:
        ConfigError: an option is missing, or is given for a model that does not use it.
    """
    values = vars(options)
    if "guide" not in info.needs:
        for key in _OPTIONS:
            if values[key] is not None:
                raise ConfigError(f"{option_name(key)}: the '{info.task}' model does not use it")
        return None
    from refusion.batch.disparity_maps import DisparityMaps
    from refusion.optics.lens import lens_number

    imitated = imitated_lens(options)
    place = _place(options.disparity, info.task, photos)
    source, target = lens_number(values["from"] or SHARP), lens_number(imitated)
    unknown = bool(options.zero_unknown)
    return DisparityMaps(place, source, target, options.blur, options.focus, unknown)


def imitated_lens(options: argparse.Namespace) -> str:
    """The name of the lens to imitate, by `--to` or `--aperture`.

    This check does not import PyTorch.

    Args:
        options: parsed options.

    Raises:
        ConfigError: the lens or the disparity map is missing, or the lens is given twice.
    """
    aperture, named, disparity = options.aperture, options.to, options.disparity
    if named is not None and aperture is not None:
        raise ConfigError("--aperture: --to names the lens, too; give one of them")
    lens = named if aperture is None else f"Canon50mmf{aperture:.4f}BS"
    given = {"--aperture": lens, "--disparity": disparity}
    missing = [option for option, value in given.items() if value is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: missing; the model blurs the background as a lens of the "
            "f-number --aperture (e.g. 1.8) would, and estimates no depth: give a map FILE by "
            "--disparity (or a folder of maps with the names of the photos), brighter is nearer; "
            "it can be measured, painted or made by a depth estimator"
        )
    return lens


def _place(given: Path | float, task: str, photos: int) -> Path:
    """Check the value of --disparity: an existing map, or a folder of maps for several photos."""
    if not isinstance(given, Path):
        raise ConfigError(
            f"--disparity: the '{task}' model takes a map FILE, brighter is nearer, not the number "
            f"{given:g}; --blur sets the strength of the blur"
        )
    if not given.exists():
        raise ConfigError(f"--disparity: no such file or folder: {given}")
    if photos > 1 and not given.is_dir():
        raise ConfigError(
            f"--disparity: one map for {photos} photos; give a folder of maps with their names"
        )
    return given


def _aperture(text: str) -> float:
    """Option type: an f-number, 0.5 to 64."""
    value = finite_number(text)
    if not 0.5 <= value <= 64:
        raise argparse.ArgumentTypeError(f"expected an f-number from 0.5 to 64, got '{text}'")
    return value


def _point(text: str) -> tuple[float, float]:
    """Option type: two numbers from 0 to 1."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise argparse.ArgumentTypeError(f"expected X,Y from 0 to 1, e.g. 0.5,0.6, got '{text}'")
    return x, y
