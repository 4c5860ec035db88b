"""Reading of YAML text as plain values.

The text may come from an unknown source. Its size, depth and number of values are limited, also
after aliases (`*name`) and merge keys (`<<`) are replaced by what they stand for. Only texts,
numbers, true, false, null, lists and sections are read. Values that YAML 1.1 reads in another way
than people do are texts (1:30) or refused (010, dates).
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml

from refusion.errors import ConfigError, one_line, printable

MAX_BYTES = 2**20
MAX_DEPTH = 20
MAX_VALUES = 20_000  # the largest option file of this package has less than 200
_LONGEST_KEY = 200
_LONGEST_NUMBER = 40  # characters
_PREFIX = "tag:yaml.org,2002:"
_TAGS = {_PREFIX + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
_DATE, _EQUALS_SIGN = _PREFIX + "timestamp", _PREFIX + "value"
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def read_yaml_text(content: bytes | str, source: str) -> object:
    """Read the plain values of a YAML text.

    Args:
        content: the text, or its bytes in UTF-8, with or without a byte order mark.
        source: start of each error message, for example the file name.

    Returns:
        Nested dictionaries and lists of texts, numbers, true, false and None; None for an empty
        text.

    Raises:
        ConfigError: the text is not valid YAML, gives a key twice, or exceeds a limit.
    """
    if len(content) > MAX_BYTES:
        _fail(source, f"holds {len(content)} bytes, expected an option file of at most {MAX_BYTES}")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is not UTF-8 text; save the file as UTF-8"
        _fail(source, f"cannot be read as YAML: {where}")
    try:
        loader = _Loader(text)
        try:
            return _unshared(loader.get_single_data())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        problem = one_line(error.problem or error.context, 160)
        _fail(source, f"cannot be read as YAML: {place}{problem}")
    except yaml.YAMLError as error:
        _fail(source, f"cannot be read as YAML: {one_line(error, 160)}")


def _unshared(value: object) -> object:
    """A copy in which an alias has a value of its own, so that a change of one changes no other."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _fail(source: str, message: str) -> NoReturn:
    raise ConfigError(f"{source}: {message}") from None


class _Loader(yaml.SafeLoader):
    """Reads plain values within the limits of this module."""

    yaml_implicit_resolvers = {  # noqa: RUF012, as in the base class
        first: [pair for pair in pairs if pair[0] != _EQUALS_SIGN]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.sizes: dict[int, int] = {}  # id of a complete node: values in it, without aliases
        self.values = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        """Compose a node; count the values that it stands for."""
        mark = self.peek_event().start_mark
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels", problem_mark=mark)
        before = self.values
        self.depth += 1
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_alias and id(node) not in self.sizes:
            raise yaml.MarkedYAMLError(problem="an anchor contains itself", problem_mark=mark)
        self.values += self.sizes[id(node)] if is_alias else 1
        self.sizes.setdefault(id(node), self.values - before)
        if self.values > MAX_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"the file stands for more than {MAX_VALUES} values", problem_mark=mark
            )
        if node.tag == _DATE:
            _problem(node, f"{printable(node.value, 40)} is a date; write it in quotes")
        if node.tag not in _TAGS:
            tag = printable(node.tag.removeprefix(_PREFIX), 40)
            _problem(node, f"could not determine a constructor for the tag {tag}; remove the tag")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a section and check that its keys differ."""
        node = super().compose_mapping_node(anchor)
        seen: dict[object, yaml.Node] = {}
        for key_node, _ in node.value:
            key = self._key(key_node)
            if key in seen:
                first = seen[key].start_mark.line + 1
                _problem(key_node, f"the key '{key}' is there twice, first in line {first}")
            seen[key] = key_node
        return node

    def _key(self, node: yaml.Node) -> object:
        is_plain = isinstance(node, yaml.ScalarNode) and len(node.value) <= _LONGEST_KEY
        if is_plain and node.tag == _PREFIX + "merge":
            return "<<"
        key = self.construct_object(node) if is_plain else None
        if type(key) not in (str, int):
            shown = printable(node.value, 40) if isinstance(node, yaml.ScalarNode) else "a list"
            _problem(node, f"expected a text as key, got {shown}; write a text in quotes")
        return key

    def construct_scalar(self, node: yaml.Node) -> Any:
        """Text of a scalar; a number has to be short and decimal."""
        text = super().construct_scalar(node)
        if node.tag in (_PREFIX + "int", _PREFIX + "float"):
            if len(text) > _LONGEST_NUMBER:
                _problem(node, f"expected a number, got one of {len(text)} characters")
            if _OCTAL.fullmatch(text) and text.strip("+-0_"):
                decimal = text.replace("_", "").lstrip("+-0")
                _problem(
                    node, f"{text} is an octal number in YAML; write {decimal}, or '{text}' as text"
                )
        return text

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Value of a node; a text with the tag of a number becomes an error, not an exception."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError):
            _problem(node, f"{printable(repr(node.value), 40)} is not of the type that it claims")

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """Tag of a node; numbers with colons, such as 1:30, are texts."""
        tag = super().resolve(kind, value, implicit)
        is_number = tag in (_PREFIX + "int", _PREFIX + "float")
        return _PREFIX + "str" if is_number and _SEXAGESIMAL.fullmatch(value) else tag


def _problem(node: yaml.Node, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
