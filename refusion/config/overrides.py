"""Changes of single values on the command line: 'dotted.key=value'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from refusion.config.yaml_text import MAX_DEPTH, read_yaml_text
from refusion.errors import ConfigError, printable, short

_LONGEST_INDEX = 6  # digits


def checked_overrides(overrides: object) -> tuple[str, ...]:
    """The texts of several overrides.

    Raises:
        ConfigError: these are not several texts.
    """
    texts = tuple(overrides) if isinstance(overrides, Iterable) else (None,)
    if isinstance(overrides, str | bytes) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(
            "overrides: expected a list of texts such as ['train.steps=1000'], got "
            f"{short(overrides)}"
        )
    return texts


def name_override(message: str, source: str, overrides: Sequence[str]) -> str:
    """A message about a value of a file, with the override that gave the value, if there is one.

    Args:
        message: text that begins with the source and the dotted key, see `config_from_dict`.
        source: the file.
        overrides: texts 'dotted.key=value'; later ones replace earlier ones.
    """
    head = f"{source}: "
    if not message.startswith(head):
        return message
    rest = message.removeprefix(head)
    wrong = rest.partition(": ")[0]
    for override in reversed(overrides):
        key = override.partition("=")[0].strip()
        if f"{wrong}.".startswith(f"{key}."):
            return f"--set {rest}"
        if key.startswith(f"{wrong}."):  # values of this section are wrong together
            return f"{source} with --set {printable(key, 80)}: {rest}"
    return message


def apply_override(raw: object, text: str) -> None:
    """Set one value of nested dicts and lists in place, as 'dotted.key=value' says.

    The value is read as YAML, except that 1e-4 is a number; list items are chosen by their index.

    Raises:
        ConfigError: malformed text, or a path through something that is no section.
    """
    key, equals, value = text.partition("=")
    *parents, last = key.strip().split(".")
    text = printable(text, 80)
    if not equals or not last or len(parents) > MAX_DEPTH:
        raise ConfigError(f"--set '{text}': write dotted.key=value, e.g. train.steps=1000")
    node = raw
    for part in parents:
        child = _step(node, part, text)
        if child is None:
            child = node[part] = {}  # a section absent or null so far
        node = child
    _step(node, last, text)
    node[int(last) if isinstance(node, list) else last] = _override_value(text, value)


def _step(node: object, part: str, text: str) -> Any:
    """Value of `part` in a section or list; None if a section has none."""
    if isinstance(node, dict):
        return node.get(part)
    is_index = part.isdecimal() and len(part) <= _LONGEST_INDEX
    if isinstance(node, list) and is_index and int(part) < len(node):
        return node[int(part)]
    raise ConfigError(f"--set '{text}': there is no '{printable(part, 40)}' to set there")


def _override_value(text: str, value: str) -> Any:
    parsed = read_yaml_text(value, f"--set '{text}'")
    if isinstance(parsed, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", parsed):
        return float(parsed)  # 1e-4 is text in YAML 1.1, never what a command line means
    return parsed
