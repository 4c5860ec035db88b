"""Options of bokeh with a disparity map of the photo, by rendering or by a model.

The map is given by `--disparity`, or it is the photo's own, which phones write for portraits.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.options.values import finite_number, number_or_percent, option_name, positive
from refusion.errors import ConfigError, ImageError, printable

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.batch.disparity_maps import DisparityMaps
    from refusion.restorers.base import RestorerInfo

TASK = "bokeh"
_OF_NETWORKS = ("weights", "steps", "sampler")
_OPTIONS = ("aperture", "blur", "focus", "zero_unknown")
SHARP = "Sony50mmf16.0BS"  # the lens of a photo that is sharp from front to back


def add_bokeh_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options for the lens and for the map."""
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
        help="point in focus, as fractions 0..1 or percent of width and height (default: the depth "
        "with a tenth of the map in front of it)",
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
    options: argparse.Namespace, info: RestorerInfo, photos: Sequence[Path]
) -> DisparityMaps | None:
    """The disparity maps for a model that needs a guide; None for other models.

    Args:
        options: parsed options.
        info: description of the restorer.
        photos: the photos.

    Raises:
        ConfigError: an option is missing, or is given for a model that does not use it.
    """
    values = vars(options)
    if "guide" not in info.needs:
        for key in _OPTIONS:
            if values[key] is not None:
                raise ConfigError(f"{option_name(key)}: the '{info.task}' model does not use it")
        return None
    if options.noise_level is not None:
        raise ConfigError(f"--noise-level: the '{info.task}' model does not use it")
    from refusion.batch.disparity_maps import DisparityMaps
    from refusion.optics.lens import lens_number

    imitated = imitated_lens(options, photos)
    place = _place(options, info.task, len(photos))
    source, target = lens_number(values["from"] or SHARP), lens_number(imitated)
    unknown = bool(options.zero_unknown)
    rendered = info.family == "BokehRenderer"
    return DisparityMaps(place, source, target, options.blur, options.focus, unknown, rendered)


def is_rendered(options: argparse.Namespace) -> bool:
    """Whether bokeh without `--method` is rendered: no option is for a network, and blur is added.

    This check does not import PyTorch.

    Args:
        options: parsed options.

    Raises:
        ConfigError: the name of a lens is wrong.
    """
    from refusion.optics.lens import lens_number

    values = vars(options)
    if options.task != TASK or any(values[key] is not None for key in _OF_NETWORKS):
        return False
    imitated = _lens_name(options)
    if imitated is None:  # reported later, with all that is missing
        return True
    return abs(lens_number(imitated)) <= abs(lens_number(values["from"] or SHARP))


def check_renderer(options: argparse.Namespace) -> None:
    """Check the options of `--method render`.

    Args:
        options: parsed options.

    Raises:
        ConfigError: an option is for networks, or the task is another one.
    """
    for key in _OF_NETWORKS:
        if vars(options)[key] is not None:
            raise ConfigError(f"{option_name(key)}: --method render has no network; leave it out")
    if options.task not in (None, TASK):
        raise ConfigError(f"--task: --method render restores '{TASK}', got '{options.task}'")


def _lens_name(options: argparse.Namespace) -> str | None:
    """The name of the lens to imitate; None if it is missing."""
    aperture = options.aperture
    return options.to if aperture is None else f"Canon50mmf{aperture:.4f}BS"


def imitated_lens(options: argparse.Namespace, photos: Sequence[Path]) -> str:
    """The name of the lens to imitate, by `--to` or `--aperture`.

    This check does not import PyTorch.

    Args:
        options: parsed options.
        photos: the photos, whose own maps are used without `--disparity`.

    Raises:
        ConfigError: the lens is missing or given twice, or there is no map: none is given, and no
            photo has one.
    """
    aperture, named = options.aperture, options.to
    if named is not None and aperture is not None:
        raise ConfigError("--aperture: --to names the lens, too; give one of them")
    lens = _lens_name(options)
    has_map = options.disparity is not None or _any_has_map(photos)
    given = {"--aperture": lens is not None, "--disparity": has_map}
    missing = [option for option, is_given in given.items() if not is_given]
    if not missing:
        return lens
    text = "the model blurs the background as a lens of the f-number --aperture (e.g. 1.8) would"
    if not has_map:
        whose = printable(str(photos[0]), 200) if len(photos) == 1 else "none of the photos"
        text += (
            f", and {whose} has {'no' if len(photos) == 1 else 'a'} depth map of its own: take a "
            "portrait photo of a phone that has one (JPEG or HEIC), or give a map FILE by "
            "--disparity (or a folder of maps with the names of the photos), brighter is nearer; "
            "it can be measured, painted or made by a depth estimator"
        )
    raise ConfigError(f"{', '.join(missing)}: missing; {text}")


def _any_has_map(photos: Iterable[Path]) -> bool:
    """Whether a photo has a depth map, or states one; a broken one is reported with its photo."""
    from refusion.images.depth_map import has_depth_map

    for photo in photos:
        with contextlib.suppress(ImageError):
            if has_depth_map(photo):
                return True
    return False


def _place(options: argparse.Namespace, task: str, photos: int) -> Path | None:
    """Check --disparity: an existing map, or a folder of maps for several photos.

    None stands for the maps of the photos themselves.
    """
    given = options.disparity
    if given is None:
        if options.zero_unknown:
            raise ConfigError("--zero-unknown: is for a map that is given by --disparity")
        return None
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
    """Option type: an f-number, 0.5 to 64, as 1.8 or f/1.8."""
    value = finite_number(text.lower().removeprefix("f").removeprefix("/"))
    if not 0.5 <= value <= 64:
        raise argparse.ArgumentTypeError(f"expected an f-number from 0.5 to 64, got '{text}'")
    return value


def _point(text: str) -> tuple[float, float]:
    """Option type: two numbers from 0 to 1, or in percent."""
    try:
        x, y = (number_or_percent(part.strip()) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise argparse.ArgumentTypeError(
            f"expected X,Y from 0 to 1 or in percent, e.g. 0.5,0.6 or 50%,60%, got '{text}'"
        )
    return x, y
