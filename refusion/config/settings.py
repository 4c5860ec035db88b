"""The settings of a component: the parameters of its constructor that a YAML file may give."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from refusion.errors import ConfigError

REQUIRED = inspect.Parameter.empty
"""Default of a setting that must be given."""


@dataclass(frozen=True)
class Setting:
    """One setting: its annotation, and its default or `REQUIRED`."""

    hint: Any
    default: Any


def underlying(entry: Callable[..., Any]) -> Callable[..., Any]:
    """The class or function that a table entry calls: of a `functools.partial`, its function."""
    return entry.func if isinstance(entry, functools.partial) else entry


def constructor_settings(
    entry: Callable[..., Any], supplied: Iterable[str] = ()
) -> dict[str, Setting]:
    """Read the settings of a class (all its parameters) or of a function (its keywords).

    The positional parameters of a function are the data of a call (tensors), not settings.

    Args:
        entry: class or function of a component table, or a `functools.partial` of one.
        supplied: parameters that the program fills in.

    Returns:
        Settings by name, in the order of the signature. The annotation is `Any` where the
        annotations cannot be read.

    Raises:
        ConfigError: the signature cannot be read. Some built-in classes have none.
    """
    called = underlying(entry)
    kinds = {inspect.Parameter.KEYWORD_ONLY}
    if isinstance(called, type):
        kinds.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    supplied = set(supplied)
    is_plain_class = isinstance(called, type) and not dataclasses.is_dataclass(called)
    hints = _hints(called.__init__ if is_plain_class else called)
    return {
        p.name: Setting(hints.get(p.name, Any), p.default)
        for p in _signature(entry).parameters.values()
        if p.kind in kinds and p.name not in supplied
    }


def all_settings(entry: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a component with the defaults of those that are left out, to compare them.

    Args:
        entry: class or function of a component table.
        given: settings by name.

    Returns:
        Settings by name; lists are tuples.
    """
    defaults = {name: setting.default for name, setting in constructor_settings(entry).items()}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (defaults | dict(given)).items()
        if value is not REQUIRED
    }


def _hints(annotated: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by name; empty if they cannot be read, since the keys can still be checked.

    Those of a dataclass are read from the class, because an inherited field has to be looked up in
    the module of the base class. Reading fails for names that only type checkers know, and for
    callables without annotations.
    """
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _signature(entry: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(entry)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"table entry {entry!r}: expected a class or function with a readable signature "
            f"({error}); enter a Python function or class that calls it"
        ) from error
