"""Descriptions of fields and parameters, read from comments and docstrings of the source."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable
from typing import Any

_SECTION = re.compile(r"(?:Args|Attributes):")
_ENTRY = re.compile(r" {4}(\w+): (.*)")


def descriptions(owner: Callable[..., Any]) -> dict[str, str]:
    """Describe the fields of a dataclass, or the parameters of a constructor or function.

    A description is the comment behind a field, else its entry in the docstring (`Args:` or
    `Attributes:`), else the comment lines right above the field. The docstrings and fields of base
    classes count, too.

    Returns:
        Descriptions by name; names without one are missing. Comments count only where the source
        of a class can be read.
    """
    owners = reversed(owner.__mro__[:-1]) if isinstance(owner, type) else [owner]
    found: dict[str, str] = {}
    for part in owners:
        behind, above = _comments(part)
        found |= above | _entries(part.__doc__ or "") | behind
    return found


def _entries(docstring: str) -> dict[str, str]:
    """Entries `name: text` of the sections of a docstring in Google's style."""
    found: dict[str, str] = {}
    name, is_open = "", False
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            is_open = bool(_SECTION.fullmatch(line))
        elif is_open and (entry := _ENTRY.fullmatch(line)):
            name = entry[1]
            found[name] = entry[2]
        elif is_open and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
    return {name: text.replace("``", "`") for name, text in found.items()}


def _comments(owner: Callable[..., Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Comments of the fields of a class by name: those behind a field, and those above it."""
    if not isinstance(owner, type):
        return {}, {}
    try:
        source = textwrap.dedent(inspect.getsource(owner))
        tree = ast.parse(source)
        lines = _comment_lines(source)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return {}, {}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    fields = [node for cls in classes for node in cls.body if isinstance(node, ast.AnnAssign)]
    behind, above = {}, {}
    for field in fields:
        name = ast.unparse(field.target)
        if field.end_lineno in lines:
            behind[name] = lines[field.end_lineno][1]
        first = field.lineno
        while lines.get(first - 1, (False,))[0]:
            first -= 1
        if first < field.lineno:
            above[name] = " ".join(lines[number][1] for number in range(first, field.lineno))
    return behind, above


def _comment_lines(source: str) -> dict[int, tuple[bool, str]]:
    """By line number: whether the line is a comment only, and the text of the comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (token.line.lstrip().startswith("#"), token.string.lstrip("# "))
        for token in tokens
        if token.type == tokenize.COMMENT
    }
