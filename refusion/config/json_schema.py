"""A JSON Schema of the option files, for editors that complete and check keys.

It is made from what `Parser` reads: the dataclasses of the sections with their `Bound`s, and the
constructors in the component tables. What one section demands of another (`__post_init__`) is not
in it, nor are old names of keys: a file may fit the schema and still be refused by `load_config`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from refusion.config.descriptions import descriptions
from refusion.config.parser import Component, FromTable, Table, to_plain
from refusion.config.run import RunConfig
from refusion.config.settings import REQUIRED, constructor_settings, underlying
from refusion.config.tables import find_table
from refusion.hints import LARGEST_INT, Bound, Length, first_note

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_SCALARS = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "string",
    Path: "string",
    type(None): "null",
}


def json_schema(tables: Callable[[str], Table] | None = None) -> Schema:
    """Describe the option files (`RunConfig`) as a JSON Schema, draft 2020-12.

    Args:
        tables: component tables by name; None takes the package's own.

    Returns:
        Plain values, ready for `json.dumps`. Each section and component has an entry in `$defs`.
    """
    maker = _Maker(tables or find_table)
    root = maker.section(RunConfig)
    return {"$schema": DRAFT, "title": "Option file of refusion", **root, "$defs": maker.defs}


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Turns annotations into schemas; `defs` collects the definitions that they refer to."""

    tables: Callable[[str], Table]
    defs: dict[str, Schema] = dataclasses.field(default_factory=dict)

    def of(self, hint: Any, notes: tuple[Any, ...] = ()) -> Schema:
        """Schema of one annotation; unknown kinds of annotation accept anything.

        `notes` are those of the enclosing `Annotated`.
        """
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return self.of(args[0], (*args[1:], *notes))
        if origin in (Union, types.UnionType):
            return _any_of([self.of(arm, notes) for arm in args])
        if origin is Literal:
            return {"enum": list(args)}
        from_table = first_note(notes, FromTable)
        if hint is str and from_table is not None:
            return self._key_schema(from_table)
        if isinstance(hint, type) and hint in _SCALARS:
            return {"type": _SCALARS[hint]} | _limits(hint, first_note(notes, Bound))
        if origin in (list, tuple, Sequence, Iterable):
            return self._sequence(origin, args or (Any, ...), notes)
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(args[1] if args else Any)}
        if isinstance(hint, type) and issubclass(hint, Component):
            return self._component(hint, from_table)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self._reference(hint.__name__, lambda: self.section(hint))
        return {}

    def section(self, cls: type) -> Schema:
        """Schema of a dataclass."""
        hints = typing.get_type_hints(cls, include_extras=True)
        notes = descriptions(cls)
        return _object(
            cls,
            {
                field.name: self._property(hints[field.name], _default(field), notes, field.name)
                for field in dataclasses.fields(cls)
                if field.init
            },
            [field.name for field in dataclasses.fields(cls) if _default(field) is REQUIRED],
        )

    def _property(self, hint: Any, default: Any, notes: Mapping[str, str], name: str) -> Schema:
        made = self.of(hint)
        if name in notes:
            made = {"description": notes[name], **made}
        return made if default is REQUIRED else made | _json_default(default)

    def _key_schema(self, from_table: FromTable) -> Schema:
        """A key of a table; any text, too, if the table accepts names that are not its keys."""
        table = self.tables(from_table.table)
        names = {"enum": list(table)}
        is_open = isinstance(table, Mapping) and type(table) is not dict
        return {"anyOf": [names, {"type": "string"}]} if is_open else names

    def _sequence(self, origin: Any, args: tuple[Any, ...], notes: tuple[Any, ...]) -> Schema:
        length = first_note(notes, Length)
        inner = tuple(note for note in notes if not isinstance(note, Length))
        if origin is not tuple or args[-1:] == (...,):
            size = {} if length is None else {"minItems": length.low, "maxItems": length.high}
            return {"type": "array", "items": self.of(args[0], inner), **size}
        items = [self.of(arg, inner) for arg in args]
        size = {"minItems": len(items), "maxItems": len(items)}
        if all(item == items[0] for item in items):
            return {"type": "array", "items": items[0], **size}
        return {"type": "array", "prefixItems": items, **size}

    def _component(self, cls: type[Component], from_table: FromTable | None) -> Schema:
        own = {f.name: {"type": "string"} for f in dataclasses.fields(cls) if f.name != "settings"}
        if from_table is None:
            return {"type": "object", "properties": own, "required": list(own)}
        suffix = "" if cls is Component else f".{cls.__name__}"
        table = self.tables(from_table.table)
        return {
            "anyOf": [
                self._reference(
                    f"{from_table.table}.{name}{suffix}",
                    lambda name=name: self._entry(name, table[name], own, from_table),
                )
                for name in table
            ]
        }

    def _entry(self, name: str, entry: Any, own: Schema, from_table: FromTable) -> Schema:
        """Schema of a section `{type: name, ...}` with the settings of a constructor."""
        called = underlying(entry)
        notes = descriptions(called)
        settings = constructor_settings(entry, from_table.supplied)
        properties = {**own, "type": {"const": name}} | {
            key: self._property(setting.hint, setting.default, notes, key)
            for key, setting in settings.items()
        }
        required = [key for key, setting in settings.items() if setting.default is REQUIRED]
        return _object(called, properties, [*own, *required])

    def _reference(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self.defs:
            self.defs[name] = {}  # a component may hold others of its own table
            self.defs[name] = make()
        return {"$ref": f"#/$defs/{name}"}


def _object(owner: Any, properties: Schema, required: Sequence[str]) -> Schema:
    summary = inspect.cleandoc(owner.__doc__ or "").partition("\n\n")[0]
    return {
        "description": " ".join(summary.split()),
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def _json_default(default: Any) -> Schema:
    """The default of a property; empty for values that JSON does not have (classes, inf, nan)."""
    plain = to_plain(default)
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError):
        return {}
    return {"default": plain}


def _limits(kind: type, bound: Bound | None) -> Schema:
    """Limits of a number; a whole number with one declared side has the limit of all numbers."""
    if bound is None or kind not in (int, float):
        return {}
    high = LARGEST_INT if kind is int and bound.high == math.inf else bound.high
    low = {"exclusiveMinimum" if bound.above else "minimum": bound.low}
    return {key: n for key, n in {**low, "maximum": high}.items() if math.isfinite(n)}


def _any_of(arms: Sequence[Schema]) -> Schema:
    """One of several schemas, written as short as possible: null and enumerations are merged."""
    null = {"type": "null"}
    parts = [part for arm in arms for part in (arm["anyOf"] if list(arm) == ["anyOf"] else [arm])]
    values = [value for part in parts if list(part) == ["enum"] for value in part["enum"]]
    others = [part for part in parts if part != null and list(part) != ["enum"]]
    different = [part for n, part in enumerate(others) if part not in others[:n]]
    if null in parts and not different:
        values = [*values, None]
    elif null in parts and not values and len(different) == 1 and "type" in different[0]:
        return {**different[0], "type": [different[0]["type"], "null"]}
    elif null in parts:
        different = [*different, null]
    made = [{"enum": list(dict.fromkeys(values))}, *different] if values else different
    return made[0] if len(made) == 1 else {"anyOf": made}
