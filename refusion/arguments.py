"""Checks of the arguments that public functions and classes get from Python code."""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union

from refusion.errors import ConfigError, short
from refusion.hints import LONGEST_LIST, Bound, Length, first_note

_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "None",
}
_LISTS = (list, tuple, Sequence)
_DICTS = (dict, Mapping)


def check_arguments(function: Callable[..., Any], values: Mapping[str, object]) -> None:
    """Check arguments by the annotations of their function, with the limits that these declare.

    A function calls it with its own arguments: `check_arguments(enlarged, locals())`. Annotations
    of forms that are not known here accept any value; so do names that only type checkers know.

    Args:
        function: the function; for a class with its own constructor `NAME.__init__`, for a
            dataclass the class.
        values: the arguments by name; other names are ignored.

    Raises:
        ConfigError: a value is not of the annotated type or is out of its limits.
    """
    for name, hint in _hints(function).items():
        if name in values and name != "return" and not _fits(values[name], hint):
            raise ConfigError(f"{name}: expected {_expected(hint)}, got {short(values[name])}")


def is_between(value: object, low: float, high: float) -> bool:
    """Whether a value is a number from `low` to `high`; false for NaN and for truth values."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; false for truth values."""
    return isinstance(value, Integral) and not isinstance(value, bool)


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError:
        return _hints_one_by_one(function)


def _hints_one_by_one(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be read, where one of them is a name of type checkers only."""
    found = {}
    for name, text in function.__annotations__.items():
        one = types.SimpleNamespace(__annotations__={name: text})
        try:
            found |= typing.get_type_hints(one, function.__globals__, include_extras=True)
        except (NameError, AttributeError):
            continue
    return found


def _fits(value: object, hint: Any, notes: tuple[Any, ...] = ()) -> bool:
    """Whether a value is of an annotated type; `notes` are those of the enclosing `Annotated`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(value, args[0], (*args[1:], *notes))
    if origin in (Union, types.UnionType):
        return any(_fits(value, arm, notes) for arm in args)
    if origin is Literal:
        return any(type(option) is type(value) and option == value for option in args)
    if origin in _LISTS:
        return _is_list(value, args, notes)
    if origin in _DICTS:
        return isinstance(value, Mapping) and all(_fits(item, args[1]) for item in value.values())
    if hint in (int, float):
        return _is_number(value, Integral if hint is int else Real, first_note(notes, Bound))
    kind = Callable if origin is Callable else origin or hint
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, kind)


def _is_number(value: object, kind: type, bound: Bound | None) -> bool:
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return not math.isnan(value) if bound is None else bound.holds(value) and value < math.inf


def _is_list(value: object, args: tuple[Any, ...], notes: tuple[Any, ...]) -> bool:
    length = first_note(notes, Length) or Length(0)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    hints = [args[0]] * len(value) if args[1:] in ((), (...,)) else args
    is_long = not length.low <= len(value) <= length.high
    if is_long or len(hints) != len(value):
        return False
    inner = tuple(note for note in notes if not isinstance(note, Length))
    return all(_fits(item, hint, inner) for item, hint in zip(value, hints, strict=True))


def _expected(hint: Any, notes: tuple[Any, ...] = ()) -> str:
    """An annotation in a message."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _expected(args[0], (*args[1:], *notes))
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(arm, notes) for arm in args)
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin in _LISTS:
        return _expected_list(args, notes)
    if origin in _DICTS:
        return "a dict of names" + ("" if args[1] is Any else f", with {_expected(args[1])} each")
    if origin is Callable:
        return "a function"
    bound = first_note(notes, Bound)
    limits = f" {bound}" if bound and hint in (int, float) else ""
    return _NAMES.get(hint, f"a {getattr(origin or hint, '__name__', hint)}") + limits


def _expected_list(args: tuple[Any, ...], notes: tuple[Any, ...]) -> str:
    length = first_note(notes, Length) or Length(0)
    inner = tuple(note for note in notes if not isinstance(note, Length))
    low, high = length.low, length.high
    if args[1:] not in ((), (...,)):
        low = high = len(args)
    if low == high:
        count = f"{low} values"
    else:
        count = f"{low} to {high} values" if high < LONGEST_LIST else "values"
    return f"a list of {count}, each {_expected(args[0], inner)}"
