"""Errors meant for the person at the keyboard: their message is complete, no traceback needed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RefusionError(Exception):
    """Something the user can fix: the message names the thing, what was expected and what came."""


class ConfigError(RefusionError):
    """A YAML file or an option is wrong."""


class ImageError(RefusionError):
    """An image file or tensor cannot be used."""


class CheckpointError(RefusionError):
    """A weights file cannot be used."""


def suggest(word: str, options: Iterable[str]) -> str:
    """Hint that ends an error about an unknown word: the nearest option, else all of them.

    >>> suggest("dehase", ["dehaze", "derain"])
    "; did you mean 'dehaze'?"
    >>> suggest("zzz", ["b", "a"])
    '; expected one of: a, b'
    """
    options = sorted(options)
    near = difflib.get_close_matches(str(word), options, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; expected one of: {', '.join(options)}"
