"""Checks of degradation settings."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from refusion.errors import ConfigError


def check_settings(settings: Any, domains: dict[str, tuple[float, float]]) -> None:
    """Raise `ConfigError` if a setting differs in form from its default or is out of its domain.

    Args:
        settings: frozen dataclass whose fields are numbers, booleans or tuples of numbers, with
            defaults. A tuple is a range (low, high), unless the field name ends in "_weights".
        domains: allowed [low, high] by field name. The default is [0, 1], for weights [0, inf).

    Raises:
        ConfigError: names the class, the field, the expected and the actual value.
    """
    for field in fields(settings):
        value, name = getattr(settings, field.name), f"{type(settings).__name__}.{field.name}"
        is_weights = field.name.endswith("_weights")
        low, high = domains.get(field.name, (0.0, math.inf if is_weights else 1.0))
        _check_value(name, field.default, value, low, high)
        if is_weights and not sum(value) > 0:
            raise ConfigError(f"{name}: expected at least one weight above 0, got {value}")
        if not is_weights and isinstance(value, tuple) and list(value) != sorted(value):
            raise ConfigError(f"{name}: expected (low, high) with low <= high, got {value}")


def check_range(name: str, value: object, low: float, high: float) -> None:
    """Raise `ConfigError` unless a setting is a range (low, high) inside limits.

    Args:
        name: name of the setting, for the message.
        value: the setting.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        ConfigError: `value` is not a pair of ascending numbers, or is outside [low, high].
    """
    is_pair = isinstance(value, tuple) and len(value) == 2
    if not is_pair or not all(isinstance(v, (int, float)) for v in value):
        raise ConfigError(f"{name}: expected two numbers (low, high), got {value!r}")
    if not low <= value[0] <= value[1] <= high:
        raise ConfigError(f"{name}: expected {low:g} <= low <= high <= {high:g}, got {value}")


def _check_value(name: str, default: Any, value: Any, low: float, high: float) -> None:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: expected true or false, got {value!r}")
        return
    values = value if isinstance(value, tuple) else (value,)
    expected = default if isinstance(default, tuple) else (default,)
    is_whole = all(isinstance(number, int) for number in expected)
    kind: Any = int if is_whole else (int, float)
    is_number = all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    is_same_kind = isinstance(value, tuple) == isinstance(default, tuple)
    if not (is_number and is_same_kind and len(values) == len(expected)):
        what = "whole number(s)" if is_whole else "number(s)"
        raise ConfigError(f"{name}: expected {len(expected)} {what} as {default}, got {value!r}")
    if not all(low <= v <= high for v in values):
        raise ConfigError(f"{name}: expected values in [{low:g}, {high:g}], got {value}")
