"""Checks the values that come with a click; a program can send any values instead of the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refusion.batch.options import RestoreOptions
from refusion.cli.options.results import FORMATS
from refusion.config.scalars import short
from refusion.errors import ConfigError
from refusion.restorers import Conditions, HazeOptions, Restorer, RestorerInfo
from refusion.restorers.base import ALL_HAZE, STRENGTHS

MAX_STEPS = 1000
MAX_SAMPLES = 64
MAX_SEED = 2**53 - 1  # larger whole numbers are not exact in a browser
MAX_NOISE = 100.0  # 8-bit levels
APERTURES = (1.4, 16.0)
EXPOSURES = {"auto": "auto", "keep": 0.0} | {
    f"{stops:+g} EV": stops for stops in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
}
"""Values of the field for the exposure, and what they mean in `HazeOptions`."""
AS_PHOTO = "photo"
"""Value of the field for the format: that of each photo."""
LOSSY = tuple(name for name in FORMATS if name not in ("png", "tiff"))
"""Formats that have a quality."""


@dataclass(frozen=True)
class Settings:
    """The checked values of all fields.

    Attributes:
        photos: files of the photos.
        name: name of the model.
        options: options of the restoration, without disparity maps.
        suffix: suffix of the results; None for that of each photo.
        maps: files of the disparity maps.
        aperture: f-number of the lens to imitate.
        focus: point in focus, relative to width and height; None for the default.
    """

    photos: tuple[Path, ...]
    name: str
    options: RestoreOptions
    suffix: str | None
    maps: tuple[Path, ...]
    aperture: float
    focus: tuple[float, float] | None


def checked_settings(
    values: Mapping[str, object],
    models: Mapping[str, Restorer],
    max_pixels: int,
    max_memory: int | None = None,
) -> Settings:
    """Check the values of all fields; fields that the model does not use have no effect.

    Args:
        values: values by the names of the fields, from `checked_values`; None for an empty field.
        models: restorers by name.
        max_pixels: larger photos are refused.
        max_memory: maximum number of bytes of the process; None for no limit.

    Raises:
        ConfigError: a value is of another kind or out of range.
    """
    name = offered_model(models, values["task"])
    info = models[name].info
    low, high = info.strengths
    limits = {"low": 100 * low, "high": 100 * high, "default": 100}
    percent = _number("strength", values["strength"], **limits, whole=False)
    options = checked_options(
        values["steps"] if info.steps else None,
        percent / 100,
        values["seed"] if info.stochastic else None,
        values["samples"] if info.stochastic else None,
        max_pixels,
        info.strengths,
        checked_haze(values["distance"], values["exposure"], info),
    )
    level = _number("noise level", values["noise_level"], 0, MAX_NOISE, whole=False)
    if level and "noise_std" in info.optional:
        conditions = replace(options.conditions, noise_std=level / 255)
        options = replace(options, conditions=conditions)
    kind, quality = checked_format(values["format"], values["quality"])
    return Settings(
        photos=tuple(map(Path, uploaded(values["photos"]))),
        name=name,
        options=replace(options, max_memory=max_memory, quality=quality),
        suffix=kind,
        maps=tuple(map(Path, uploaded(values["maps"]))) if "guide" in info.needs else (),
        aperture=_number("aperture", values["aperture"], *APERTURES, default=1.8, whole=False),
        focus=checked_focus(values["focus"]),
    )


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
    if is_file and isinstance(value, list):
        return [_checked_file(one, uploads) for one in value]
    if value is None or (not is_file and isinstance(value, (str, int, float))):
        return value
    if is_file:
        return _checked_file(value, uploads)
    raise ConfigError(f"expected a text or a number, got {short(value)}; load the page again")


def _checked_file(value: object, uploads: Path) -> dict[str, Any]:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str):
        raise ConfigError(f"expected an uploaded file, got {short(value)}; load the page again")
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


def uploaded(value: object) -> list[str]:
    """Paths of the files in a field, from a value of `checked_values`.

    Args:
        value: one file, several or None.
    """
    files = value if isinstance(value, list) else [value]
    return [file["path"] for file in files if isinstance(file, dict)]


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
        exposure: key of `EXPOSURES`; None for 'auto'.
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
    return HazeOptions(distance, exposure=EXPOSURES[exposure or "auto"])


def checked_format(kind: object, quality: object) -> tuple[str | None, int | None]:
    """Suffix of the results and their quality; None for those of each photo.

    Args:
        kind: key of `FORMATS`, or `AS_PHOTO`; None for `AS_PHOTO`.
        quality: 1 to 100, used for the formats `LOSSY`; None for the default.

    Raises:
        ConfigError: the format is unknown, or the quality is out of range.
    """
    number = int(_number("quality", quality, 1, 100, default=95))
    if kind in (None, AS_PHOTO):
        return None, None
    if not isinstance(kind, str) or kind not in FORMATS:
        names = ", ".join([AS_PHOTO, *FORMATS])
        raise ConfigError(f"format: expected one of {names}, got {short(kind)}")
    return FORMATS[kind], number if kind in LOSSY else None


def checked_focus(text: object) -> tuple[float, float] | None:
    """The point in focus, relative to width and height, from a text such as '0.5, 0.6'.

    Args:
        text: two numbers from 0 to 1; None or an empty text for the default.

    Raises:
        ConfigError: the text is something else.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    try:
        x, y = (float(part) for part in text.split(",")) if isinstance(text, str) else (-1, -1)
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ConfigError(
            f"focus: expected two numbers from 0 to 1, e.g. 0.5, 0.6, got {short(text)}; "
            "or click on the photo"
        )
    return x, y


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
        limits = f"{low:.16g} to {high:.16g}"
        raise ConfigError(f"{name}: expected {kind} from {limits}, got {short(value)}")
    return value
