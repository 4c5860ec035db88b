"""Options of models that predict haze: how much of it is removed, and its map."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refusion.cli.options.values import finite_number, number_or_percent, option_name
from refusion.errors import ConfigError
from refusion.haze_options import HazeOptions

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.batch.options import RestoreOptions
    from refusion.batch.plan import Job
    from refusion.devices.processes import World
    from refusion.restorers.base import Restorer, RestorerInfo

HAZE_TASKS = ("dehaze", "dehaze_landscape")
"""Shipped tasks whose models predict haze."""
_OPTIONS = ("distance", "airlight", "exposure", "haze_map", "same_look")
SAME_LOOK, FIRST, MEDIAN = "--same-look", "first", "median"
_STRENGTHS = -2.0, 2.0
_STOPS = 4.0


def add_strength_option(add: Callable[..., argparse.Action], task: str | None) -> None:
    """Add `--strength`.

    Args:
        add: method `add_argument` of a parser or of a group.
        task: task that the command names; None for all.
    """
    more = "-2 to 2: above 1 removes more haze, below 0 adds haze"
    of_haze = {None: f"; models that predict haze take {more}"}
    of_haze |= dict.fromkeys(HAZE_TASKS, f"; {more}")
    add(
        "--strength",
        type=_strength,
        default=1.0,
        metavar="S",
        help="strength of the restoration, 0: the photo, 1 or 100%%: the restored photo (default)"
        + of_haze.get(task, ""),
    )


def add_haze_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options of models that predict haze, for single photos."""
    add(
        "--distance",
        type=_distance,
        metavar="0..1",
        help="remove haze up to this share of the largest optical depth, also in percent; what is "
        "farther keeps the haze behind it (default: 1, all haze)",
    )
    add(
        "--airlight",
        type=_airlight,
        metavar="R,G,B|auto",
        help="colour of the haze in 8-bit levels, e.g. 190,195,205 (default: auto, estimated)",
    )
    add(
        "--exposure",
        type=_exposure,
        metavar="auto|keep|EV",
        help="auto: a photo that is dark without its dense haze is brightened; keep: it is not; or "
        "a number of stops from -4 to 4 (default: auto)",
    )
    add(
        "--haze-map",
        type=Path,
        metavar="FILE|DIR",
        help="also write how much haze each pixel has, 1 - t, as a 16-bit gray PNG or TIFF, black "
        "for no haze (for several photos: a folder)",
    )


def add_same_look_option(add: Callable[..., argparse.Action]) -> None:
    """Add `--same-look`, the option of models that predict haze for a series of photos."""
    add(
        SAME_LOOK,
        nargs="?",
        const=FIRST,
        choices=(FIRST, MEDIAN),
        help="for a series: all photos get the colour of the haze and the exposure of the first "
        "photo; median: the median of all photos, which are read twice",
    )


def with_look_value(argv: Sequence[str]) -> list[str]:
    """The arguments, in which --same-look has its value.

    Otherwise it would take the name of a photo behind it for its value.

    Args:
        argv: the arguments of the command.

    >>> with_look_value(["--same-look", "a.jpg", "--same-look", "median"])
    ['--same-look=first', 'a.jpg', '--same-look=median']
    """
    given, found = list(argv), []
    while given and given[0] != "--":
        word = given.pop(0)
        if word == SAME_LOOK:
            is_value = bool(given) and given[0] in (FIRST, MEDIAN)
            word = f"{SAME_LOOK}={given.pop(0) if is_value else FIRST}"
        found.append(word)
    return found + given


def haze_options(options: argparse.Namespace, info: RestorerInfo) -> HazeOptions:
    """How haze is removed.

    Args:
        options: parsed options.
        info: description of the restorer.

    Raises:
        ConfigError: an option is given for a model that does not predict haze, or the strength is
            out of the range of the model.
    """
    from refusion.restorers.contract import check_strength

    check_strength(options.strength, info.strengths, "--strength")
    chosen = chosen_haze(options, info.task, predicts_haze=info.predicts_haze)
    return replace(chosen, draw=info.predicts_haze and (options.samples or 1) > 1)


def chosen_haze(options: argparse.Namespace, task: str, *, predicts_haze: bool) -> HazeOptions:
    """How haze is removed, without a random draw.

    Args:
        options: parsed options.
        task: task of the model, for messages.
        predicts_haze: whether the model predicts haze.

    Raises:
        ConfigError: an option is given for a model that does not predict haze.
    """
    values = vars(options)
    given = [key for key in _OPTIONS if values.get(key) is not None]
    if given and not predicts_haze:
        raise ConfigError(
            f"{option_name(given[0])}: the '{task}' model does not use it; it is for models "
            "that predict haze (prediction 'scattering')"
        )
    levels = None if options.airlight == "auto" else options.airlight
    airlight = None if levels is None else tuple(level / 255 for level in levels)
    distance = 1.0 if options.distance is None else options.distance
    exposure = "auto" if options.exposure is None else options.exposure
    return HazeOptions(distance, airlight, exposure)


def with_same_look(
    settings: RestoreOptions,
    options: argparse.Namespace,
    jobs: Sequence[Job],
    restorer: Restorer,
    world: World,
) -> tuple[RestoreOptions, dict[str, Any]]:
    """The settings with one look for all photos, if `--same-look` is given.

    Args:
        settings: options for all photos.
        options: parsed options.
        jobs: all jobs of the batch.
        restorer: the model.
        world: the processes.

    Returns:
        The settings, and an entry for the log: the photo, or the number of photos of the median;
        the airlight in 8-bit levels; the exposure in stops.

    Raises:
        ConfigError: the first photo, or every photo, has no haze.
    """
    from refusion.batch.progress import BatchBar
    from refusion.batch.same_look import look_of_first, look_of_median

    if not options.same_look:
        return settings, {}
    keys = ("steps", "sampler", "seed", "tile", "max_pixels", "max_memory")
    how = {key: getattr(settings, key) for key in keys}
    conditions = settings.conditions
    arguments = (jobs, restorer, conditions.haze, settings.strength)
    if options.same_look == FIRST:
        look = look_of_first(*arguments, **how)
    else:
        own = [1] * len(jobs[world.rank :: world.size])
        with BatchBar(own, quiet=options.quiet or not world.is_main) as bar:
            how["progress"] = lambda number, job: bar.update(number, job, "look", 0, 1)
            look = look_of_median(*arguments, world=world, **how)
    if look is None:  # no photo can be read; each one is reported
        return settings, {}
    source = {"photo": str(look.photo)} if look.photo else {"median_of": look.count}
    values = {
        "airlight": [round(255 * value, 1) for value in look.haze.airlight],
        "exposure": round(look.haze.exposure, 3),
    }
    settings = replace(settings, conditions=replace(conditions, haze=look.haze))
    return settings, {"look": source | values}


def look_line(look: Mapping[str, Any]) -> str:
    """One line about the look of a series.

    Args:
        look: the entry for the log, from `with_same_look`.
    """
    colour = ",".join(f"{level:g}" for level in look["airlight"])
    count = look.get("median_of")
    source = f"as in {look['photo']}" if count is None else f"the median of {count} with haze"
    return f"same look: airlight {colour}, exposure {look['exposure']:g}, {source}"


def _fraction(text: str, low: float, high: float, example: str) -> float:
    """A number from low to high, or percent."""
    value = number_or_percent(text)
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(
            f"expected a number from {low:g} to {high:g}, or percent such as {example}, "
            f"got '{text}'"
        )
    return value


def _strength(text: str) -> float:
    """Option type: a strength of any model."""
    return _fraction(text, *_STRENGTHS, "60%")


def _distance(text: str) -> float:
    """Option type: a number from 0 to 1, or percent."""
    return _fraction(text, 0, 1, "60%")


def _airlight(text: str) -> tuple[float, ...] | Literal["auto"]:
    """Option type: 'auto', or a colour in 8-bit levels."""
    if text == "auto":
        return "auto"
    try:
        colour = tuple(finite_number(part) for part in text.split(","))
    except argparse.ArgumentTypeError:
        colour = ()
    if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
        raise argparse.ArgumentTypeError(
            f"expected R,G,B in 8-bit levels from 0 to 255, e.g. 190,195,205, or auto, got '{text}'"
        )
    return colour


def _exposure(text: str) -> float | Literal["auto"]:
    """Option type: 'auto', 'keep', which is 0, or stops."""
    if text in ("auto", "keep"):
        return "auto" if text == "auto" else 0.0
    try:
        stops = finite_number(text)
    except argparse.ArgumentTypeError:
        stops = 2 * _STOPS
    if not -_STOPS <= stops <= _STOPS:
        raise argparse.ArgumentTypeError(
            f"expected auto, keep, or stops from {-_STOPS:g} to {_STOPS:g}, got '{text}'"
        )
    return stops
