"""The settings of a component: the parameters of its constructor that a YAML file may give."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

REQUIRED = inspect.Parameter.empty
"""Default of a setting that must be given."""


@dataclass(frozen=True)
class Setting:
    """One setting: its annotation, and its default or `REQUIRED`."""

    hint: Any
    default: Any


def constructor_settings(
    entry: Callable[..., Any], supplied: Iterable[str] = ()
) -> dict[str, Setting]:
    """Read the settings of a class (all its parameters) or of a function (its keywords).

    The positional parameters of a function are the data of a call (tensors), not settings.

    Args:
        entry: class or function of a component table.
        supplied: parameters that the program fills in.

    Returns:
        Settings by name, in the order of the signature.
    """
    kinds = {inspect.Parameter.KEYWORD_ONLY}
    if isinstance(entry, type):
        kinds.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    annotated = entry.__init__ if isinstance(entry, type) else entry
    try:
        hints = typing.get_type_hints(annotated, include_extras=True)
    except NameError:  # names imported for type checkers only: the keys can still be checked
        hints = {}
    supplied = set(supplied)
    return {
        p.name: Setting(hints.get(p.name, Any), p.default)
        for p in inspect.signature(entry).parameters.values()
        if p.kind in kinds and p.name not in supplied
    }
