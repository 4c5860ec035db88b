"""Checks the values that come with a click; a program can send any values instead of the page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from refusion.batch.options import RestoreOptions
from refusion.config.scalars import short
from refusion.errors import ConfigError
from refusion.restorers import Conditions, HazeOptions, RestorerInfo
from refusion.restorers.base import ALL_HAZE, STRENGTHS

MAX_STEPS = 1000
MAX_SAMPLES = 64
MAX_SEED = 2**53 - 1  # larger whole numbers are not exact in a browser
EXPOSURES = {"keep": 0.0, "auto": "auto"} | {
    f"{stops:+g} EV": stops for stops in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
}
"""Values of the field for the exposure, and what they mean in `HazeOptions`."""


def checked_values(values: Sequence[object], are_files: Sequence[bool], uploads: Path) -> list[Any]:
    """Check the form of all values before Gradio uses them.

    Gradio downloads a file if its path is an address of the web, and it looks for files in all
    values. It checks the folder of a file only in some ways of serving the page.

    Args:
        values: values of the fields.
        are_files: whether each field is for a file; the others are for texts and numbers.
        uploads: folder of the uploaded files.

    Returns:
        The values; each file is a dictionary with the path of the uploaded file.

    Raises:
        ConfigError: a value is something else, or there are more or less.
    """
    if len(values) != len(are_files):
        number = len(are_files)
        raise ConfigError(f"expected {number} values, got {len(values)}; load the page again")
    return [
        _checked_value(value, is_file, uploads)
        for value, is_file in zip(values, are_files, strict=True)
    ]


def _checked_value(value: object, is_file: bool, uploads: Path) -> Any:
    if value is None or (not is_file and isinstance(value, (str, int, float))):
        return value
    path = value.get("path") if is_file and isinstance(value, dict) else None
    if not isinstance(path, str):
        expected = "an uploaded file" if is_file else "a text or a number"
        raise ConfigError(f"expected {expected}, got {short(value)}; load the page again")
    if not _is_inside(path, uploads):
        raise ConfigError("the photo is not an uploaded file, or it was deleted; choose it again")
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _is_inside(path: str, folder: Path) -> bool:
    """Whether a path is an existing file in a folder, also after following links."""
    try:
        real = Path(path).resolve(strict=True)
        return real.is_file() and real.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no such file, NUL in the path, a link to itself
        return False


def uploaded_photo(value: object) -> str:
    """Path of the photo, from a value of `checked_values`.

    Raises:
        ConfigError: there is no photo.
    """
    if not isinstance(value, dict):
        raise ConfigError("no photo: drop a file on the box, or click on the box to choose a file")
    return value["path"]


def offered_model(models: Collection[str], value: object) -> str:
    """Name of an offered model.

    Args:
        models: names of all offered models.
        value: the chosen name.

    Raises:
        ConfigError: no model has this name.
    """
    if not isinstance(value, str) or value not in models:
        raise ConfigError(f"task: expected one of {', '.join(models)}, got {short(value)}")
    return value


def checked_haze(distance: object, exposure: object, info: RestorerInfo) -> HazeOptions:
    """How haze is removed; the fields have no effect for a model that does not predict haze.

    Args:
        distance: see `HazeOptions`; None for 1.
        exposure: key of `EXPOSURES`; None for 'keep'.
        info: of the restorer.

    Raises:
        ConfigError: a value is of another kind or out of range.
    """
    distance = _number("distance", distance, 0, 1, default=1, whole=False)
    if exposure is not None and (not isinstance(exposure, str) or exposure not in EXPOSURES):
        names = ", ".join(EXPOSURES)
        raise ConfigError(f"exposure: expected one of {names}, got {short(exposure)}")
    if not info.predicts_haze:
        return ALL_HAZE
    return HazeOptions(distance, exposure=EXPOSURES[exposure or "keep"])


def checked_options(
    steps: object,
    strength: object,
    seed: object,
    samples: object,
    max_pixels: int,
    strengths: tuple[float, float] = STRENGTHS,
    haze: HazeOptions = ALL_HAZE,
) -> RestoreOptions:
    """Options of a restoration; None stands for an empty field.

    Args:
        steps: sampling steps; 0 or None for the default of the model.
        strength: strength of the restoration; None for 1.
        seed: seed of the noise; None for 0.
        samples: number of samples; None for 1.
        max_pixels: larger photos are refused.
        strengths: smallest and largest strength of the model.
        haze: how haze is removed.

    Raises:
        ConfigError: a value is not a number or is out of range.
    """
    return RestoreOptions(
        steps=int(_number("steps", steps, 0, MAX_STEPS)) or None,
        strength=_number("strength", strength, *strengths, default=1, whole=False),
        seed=int(_number("seed", seed, 0, MAX_SEED)),
        samples=int(_number("samples", samples, 1, MAX_SAMPLES, default=1)),
        conditions=Conditions(haze=haze),
        max_pixels=max_pixels,
    )


def _number(
    name: str, value: object, low: float, high: float, *, default: int = 0, whole: bool = True
) -> float:
    """The value of a field, or its default if the field is empty."""
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not low <= value <= high  # also NaN
        or (whole and not float(value).is_integer())
    ):
        kind = "a whole number" if whole else "a number"
        limits = f"{low:.17g} to {high:.17g}"
        raise ConfigError(f"{name}: expected {kind} from {limits}, got {short(value)}")
    return value
