"""Checks of single numbers and texts of a config, and their form in error messages."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from refusion.errors import ConfigError, printable, short, suggest
from refusion.hints import LARGEST_FLOAT, LARGEST_INT, LONGEST_TEXT, Bound, limit_text

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_LIMITS = {int: LARGEST_INT, float: LARGEST_FLOAT}
_SCIENTIFIC = re.compile(r"([-+]?)(\d+)(\.\d*)?[eE]([-+]?)(\d+)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)
_LONGEST = 40  # characters of a value in a message


def check_number(kind: type, raw: object, bound: Bound | None = None) -> Any:
    """Convert a number that is within its limits.

    Args:
        kind: int or float; a whole number is converted to float.
        raw: the value.
        bound: the declared limits. A side without one has the limit of all numbers, `LARGEST_INT`
            or `LARGEST_FLOAT`.

    Raises:
        ConfigError: the value is not a number or is out of its limits; without the key.
    """
    if type(raw) is not kind and not (kind is float and type(raw) is int):
        raise ConfigError(f"expected {NAMES[kind]}, got {shown(raw)}{_yaml_number(kind, raw)}")
    if isinstance(raw, float) and not math.isfinite(raw):
        raise ConfigError(f"expected a finite number, got {raw}")
    bound, limit = bound or Bound(-math.inf), _LIMITS[kind]
    got = f"got {short(kind(raw) if abs(raw) <= limit else raw)}"
    if bound.low > -math.inf and not bound.holds(raw):
        raise ConfigError(f"must be {bound}, {got}")
    if raw > (limit if bound.high == math.inf else bound.high):
        raise ConfigError(f"must be at most {limit_text(min(limit, bound.high))}, {got}")
    if bound.low == -math.inf and raw < -limit:
        raise ConfigError(f"must be at least {limit_text(-limit)}, {got}")
    return kind(raw)


def check_text(kind: type, raw: object) -> Any:
    """Check a text, or true or false.

    Raises:
        ConfigError: the value has another type, or the text is too long; without the key.
    """
    if type(raw) is not kind:
        raise ConfigError(f"expected {NAMES[kind]}, got {shown(raw)}")
    if isinstance(raw, str) and len(raw) > LONGEST_TEXT:
        raise ConfigError(f"expected at most {LONGEST_TEXT} characters, got {len(raw)}")
    return raw


def expand_path(text: str) -> str:
    """Replace `~`, `$NAME` and `${NAME}` in a path.

    A `$NAME` without such a variable stays as it is if the path exists, because names of files may
    contain `$`.

    Raises:
        ConfigError: a variable is not set, or the path has a NUL character; without the key.
    """
    if "\0" in text:
        raise ConfigError(f"expected a path, got {short(text)}")
    path = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111, Path("./a") loses "./"
    missing = [name for name in _names(text) if name not in os.environ]
    if missing and not os.path.exists(path):  # noqa: PTH110, that of Path raises for long names
        raise ConfigError(
            f"the variable ${short(missing[0])[1:-1]} of the path is not set; set it, or write "
            "the folder itself"
        )
    return path


def _names(text: str) -> list[str]:
    """Names of the variables in a path."""
    return [one or other for one, other in _VARIABLE.findall(text)]


def suggested(name: object, options: Iterable[str]) -> str:
    """As `errors.suggest`, for a name of any type and length."""
    return suggest(printable(name, _LONGEST) if isinstance(name, str) else short(name), options)


def shown(raw: object) -> str:
    """Describe a value of the wrong type in YAML terms, shortened."""
    if raw is None:
        return "nothing (null)"
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, Mapping):
        return "a section"
    if isinstance(raw, (list, tuple)):
        return "a list"
    return f"the text {short(raw)}" if isinstance(raw, str) else short(raw)


def _yaml_number(kind: type, raw: object) -> str:
    """Advice for a number that YAML 1.1 reads as text: it needs a point and a signed exponent."""
    is_short = kind is float and isinstance(raw, str) and len(raw) <= _LONGEST
    match = _SCIENTIFIC.fullmatch(raw) if is_short else None
    if match is None:
        return ""
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    fraction = fraction if len(fraction) > 1 else ".0"
    return f"; write {sign}{whole}{fraction}e{exponent_sign or '+'}{exponent}"
