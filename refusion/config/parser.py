"""Conversion of plain values (dictionaries of YAML or JSON) to typed dataclasses, and back.

The dataclasses are the schema: annotations define the types, and `Annotated` adds limits (`Bound`,
`Length`) or the table that must contain a key (`FromTable`). Values without declared limits have
those of `refusion.hints`, also where there is no annotation. Each error message names the source,
the dotted key, the expected and the actual value.
"""

from __future__ import annotations

import dataclasses
import logging
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from refusion.config.scalars import (
    NAMES,
    check_number,
    check_text,
    expand_path,
    short,
    shown,
    suggested,
)
from refusion.config.settings import REQUIRED, constructor_settings
from refusion.errors import ConfigError, printable
from refusion.hints import LONGEST_LIST, Bound, IsPath, Length, first_note

logger = logging.getLogger(__name__)

T = TypeVar("T")
Table = Iterable[str] | Mapping[str, Callable[..., Any]]

_DEEPEST = 20  # levels of a value without an annotation
_LONGEST_KEY = 100  # characters of a dotted key in a message
_LONGEST_MESSAGE = 220  # characters behind the key


@dataclasses.dataclass(frozen=True)
class Component:
    """A section `{type: X, ...}`.

    Attributes:
        type: key of a component table.
        settings: arguments of the constructor, by name.
    """

    type: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class NamedComponent(Component):
    """A component in a list of components; `name` identifies it in logs."""

    name: str = ""


@dataclasses.dataclass(frozen=True)
class FromTable:
    """The text (str) or the `type` (Component) must be a key of the named component table.

    `supplied` are parameters that the program fills in, so YAML may not set them.
    """

    table: str
    supplied: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Parser:
    """Converts plain values to typed values.

    A class may list former names of its keys in an attribute `RENAMED_KEYS`, {old: new}; the old
    names are still read.

    Attributes:
        source: start of each error message, for example a file name.
        tables: returns a component table by its name.
        warns: whether an old key is logged as a warning. Checkpoints are read without one.
    """

    source: str
    tables: Callable[[str], Table]
    warns: bool = True

    def parse(self, cls: type[T], raw: object) -> T:
        """Build the dataclass `cls` from the mapping `raw`.

        Raises:
            ConfigError: a key is unknown or missing, or a value has a wrong type, is out of its
                limits, or is not a key of its table.
        """
        return self._value(cls, raw, "")

    def _fail(self, key: str, message: str) -> typing.NoReturn:
        parts = (self.source, printable(key, _LONGEST_KEY), printable(message, _LONGEST_MESSAGE))
        raise ConfigError(": ".join(part for part in parts if part)) from None

    def _value(self, hint: Any, raw: object, key: str, notes: tuple[Any, ...] = ()) -> Any:
        """Convert `raw` to the type of an annotation; unsupported annotations accept any value.

        `notes` are those of the enclosing `Annotated`.
        """
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return self._value(args[0], raw, key, (*args[1:], *notes))
        if origin in (Union, types.UnionType):
            return self._union(args, raw, key, notes)
        if origin is Literal:
            return self._literal(args, raw, key)
        if isinstance(hint, type) and hint in NAMES:
            return self._scalar(hint, raw, key, notes)
        if hint is Path:
            return Path(self._scalar(str, raw, key, (*notes, IsPath())))
        if origin in (list, tuple, Sequence, Iterable):
            return self._sequence(origin, args or (Any, ...), raw, key, notes)
        if origin in (dict, Mapping):
            item = args[1] if args else Any
            items = self._mapping(raw, key).items()
            return {name: self._value(item, value, _join(key, name)) for name, value in items}
        if isinstance(hint, type) and issubclass(hint, Component):
            return self._component(hint, raw, key, first_note(notes, FromTable))
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self._dataclass(hint, raw, key)
        return self._plain(raw, key)

    def _plain(self, raw: object, key: str, depth: int = 0) -> object:
        """Check a value without an annotation: its numbers, lengths and depth have limits."""
        if depth > _DEEPEST:
            self._fail(key, f"expected at most {_DEEPEST} levels")
        if type(raw) in NAMES:
            self._scalar(type(raw), raw, key, ())
        elif isinstance(raw, Mapping):
            for name, item in self._mapping(raw, key).items():
                self._plain(item, _join(key, name), depth + 1)
        elif isinstance(raw, (list, tuple)):
            self._check_length(raw, key, ())
            for number, item in enumerate(raw):
                self._plain(item, f"{key}.{number}", depth + 1)
        return raw

    def _union(self, arms: tuple[Any, ...], raw: object, key: str, notes: tuple[Any, ...]) -> Any:
        """Parse a section as the arm with most common keys, else as the first arm that fits."""
        if raw is None and type(None) in arms:
            return None
        notes = (*notes, IsPath()) if Path in arms else notes
        arms = tuple(arm for arm in arms if arm is not type(None))
        if isinstance(raw, Mapping):
            arms = (self._likely_arm(arms, raw, key),)
        error = None
        for arm in arms:
            try:
                return self._value(arm, raw, key, notes)
            except ConfigError as failure:
                error = error or failure
        raise error or ConfigError(f"{self.source}: {key}: must be null")

    def _likely_arm(self, arms: tuple[Any, ...], raw: Mapping[Any, Any], key: str) -> Any:
        best = max(arms, key=lambda arm: len(raw.keys() & _keys(arm)))
        known = set().union(*map(_keys, arms)) - {"settings"}
        if len(arms) > 1 and raw and known.isdisjoint(raw):
            name = next(iter(raw))
            self._fail(_join(key, name), f"unknown key{suggested(name, known)}")
        return best

    def _literal(self, options: tuple[Any, ...], raw: object, key: str) -> Any:
        for option in options:
            if type(option) is type(raw) and option == raw:
                return option
        self._fail(key, f"unknown value {short(raw)}{suggested(raw, map(str, options))}")

    def _scalar(self, hint: type, raw: object, key: str, notes: tuple[Any, ...]) -> Any:
        try:
            if hint in (int, float):
                return check_number(hint, raw, first_note(notes, Bound))
            value = check_text(hint, raw)
            if hint is str and first_note(notes, IsPath):
                value = expand_path(value)
        except ConfigError as error:
            self._fail(key, str(error))
        if hint is str and (from_table := first_note(notes, FromTable)) is not None:
            self._known(raw, self.tables(from_table.table), key, "value")
        return value

    def _check_length(self, raw: Sequence[Any], key: str, notes: tuple[Any, ...]) -> None:
        length = first_note(notes, Length) or Length(0)
        if not length.low <= len(raw) <= length.high:
            self._fail(
                key, f"expected a list of {length.low} to {length.high} values, got {len(raw)}"
            )

    def _sequence(
        self, origin: Any, args: tuple[Any, ...], raw: object, key: str, notes: tuple[Any, ...]
    ) -> Any:
        if not isinstance(raw, (list, tuple)):
            self._fail(key, f"expected a list, got {shown(raw)}")
        self._check_length(raw, key, notes)
        hints = list(args)
        if origin is tuple and args[-1:] != (...,):
            if len(raw) != len(hints):
                self._fail(key, f"expected a list of {len(hints)} values, got {len(raw)}")
        else:
            hints = hints[:1] * len(raw)
        inner = tuple(note for note in notes if not isinstance(note, Length))
        items = [
            self._value(hint, item, f"{key}.{i}", inner)
            for i, (hint, item) in enumerate(zip(hints, raw, strict=True))
        ]
        return tuple(items) if origin is tuple else items

    def _dataclass(self, cls: type, raw: object, key: str) -> Any:
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = [field for field in dataclasses.fields(cls) if field.init]
        required = {f.name for f in fields if _required(f)}
        raw = self._renamed(cls, raw, key)
        values = self._section({f.name: hints[f.name] for f in fields}, required, raw, key)
        try:
            return cls(**values)
        except ConfigError as error:  # its keys are relative to the section
            text = printable(error, _LONGEST_MESSAGE)
            raise ConfigError(f"{self.source}: {f'{key}.' if key else ''}{text}") from None

    def _component(self, cls: type, raw: object, key: str, from_table: FromTable | None) -> Any:
        raw = self._mapping(raw, key)
        own = {f.name: str for f in dataclasses.fields(cls) if f.name != "settings"}
        head = {name: value for name, value in raw.items() if name in own}
        values = self._section(own, set(own), head, key)
        rest = {name: value for name, value in raw.items() if name not in own}
        if from_table is not None:
            table = self.tables(from_table.table)
            self._known(values["type"], table, _join(key, "type"), "type")
            entry = table[values["type"]]
            try:
                settings = constructor_settings(entry, from_table.supplied)
            except ConfigError as error:
                self._fail(_join(key, "type"), str(error))
            hints = {name: setting.hint for name, setting in settings.items()}
            required = {name for name, s in settings.items() if s.default is REQUIRED}
            rest = self._section(hints, required, self._renamed(entry, rest, key), key)
        return cls(**values, settings=rest)

    def _renamed(self, owner: Any, raw: object, key: str) -> object:
        """The section `raw` with the present names of keys that `owner` has renamed."""
        old_names = getattr(owner, "RENAMED_KEYS", {})
        if not isinstance(raw, Mapping) or old_names.keys().isdisjoint(raw):
            return raw
        for old, new in old_names.items():
            if old in raw and self.warns:
                both = "; both are given, the later one is used" if new in raw else ""
                logger.warning("%s: %s is now called %s%s", self.source, _join(key, old), new, both)
        # A value of the command line comes after those of the file, under either name.
        return {old_names.get(name, name): value for name, value in raw.items()}

    def _section(self, hints: dict[str, Any], required: set[str], raw: object, key: str) -> dict:
        raw = self._mapping(raw, key)
        for name in raw:
            if name not in hints:
                hint = suggested(name, hints) if hints else "; none are expected here"
                self._fail(_join(key, name), f"unknown key{hint}")
        for name in hints:
            if name in required and name not in raw:
                self._fail(_join(key, name), "required key is missing")
        return {name: self._value(hints[name], raw[name], _join(key, name)) for name in raw}

    def _mapping(self, raw: object, key: str) -> Mapping[Any, Any]:
        if not isinstance(raw, Mapping):
            self._fail(key, f"expected a section of 'key: value' lines, got {shown(raw)}")
        if len(raw) > LONGEST_LIST:
            self._fail(key, f"expected at most {LONGEST_LIST} keys, got {len(raw)}")
        return raw

    def _known(self, value: str, table: Iterable[str], key: str, what: str) -> None:
        if value not in table:
            self._fail(key, f"unknown {what} {short(value)}{suggested(value, table)}")


def to_plain(value: Any) -> Any:
    """Undo `Parser.parse`: dataclasses to dicts, components flattened, tuples to lists."""
    if isinstance(value, Component):
        own = dict(vars(value))
        settings = own.pop("settings")
        return to_plain({**own, **settings})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _required(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _keys(hint: Any) -> set[str]:
    hint = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    return {f.name for f in dataclasses.fields(hint)} if dataclasses.is_dataclass(hint) else set()


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
