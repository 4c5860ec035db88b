"""Errors that the user can fix; the command line prints their message without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RefusionError(Exception):
    """Base class. The message names the file or argument, the expected and the actual value."""


class ConfigError(RefusionError):
    """A value in a YAML file, an option or an argument is wrong."""


class ImageError(RefusionError):
    """An image file or image tensor cannot be used."""


class CheckpointError(RefusionError):
    """A weights file cannot be used."""


def suggest(name: str, options: Iterable[str]) -> str:
    """End of an error message about an unknown name: the nearest option, or all options.

    Args:
        name: the unknown name.
        options: the valid names.

    >>> suggest("dehase", ["dehaze", "derain"])
    "; did you mean 'dehaze'?"
    >>> suggest("zzz", ["b", "a"])
    '; expected one of: a, b'
    """
    options = sorted(options)
    near = difflib.get_close_matches(str(name), options, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; expected one of: {', '.join(options)}"
