"""Errors that the user can fix, and the form in which messages reach a terminal."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable

LONGEST = 1000
"""Characters of the longest message; a screen has about twice as many."""

# Controls, formats such as a change of the writing direction, surrogates (bytes of a file name that
# are no text), and separators of lines and paragraphs.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_LONGEST_VALUE = 40  # characters of a value in a message
_JOINERS = "\u200c\u200d"  # formats that words of some languages and emoji contain


class RefusionError(Exception):
    """Base class. The message names the file or argument, the expected and the actual value."""


class ConfigError(RefusionError):
    """A value in a YAML file, an option or an argument is wrong."""


class ImageError(RefusionError):
    """An image file or image tensor cannot be used."""


class CheckpointError(RefusionError):
    """A weights file cannot be used."""


def printable(text: object, longest: int = LONGEST) -> str:
    r"""One line that any terminal shows as it is, for a text from outside such as a file name.

    Control characters and others without a visible form become escapes as in Python, because a
    terminal obeys some of them. A text that is too long is shortened in its middle.

    Args:
        text: what to show; other objects than texts are converted with `str`.
        longest: number of characters of the result, at least 10.

    >>> printable("a\x1b[31m.jpg")
    'a\\x1b[31m.jpg'
    >>> printable("0123456789" * 2, longest=11)
    '012 ... 789'
    """
    text = str(text)
    if len(text) > longest:  # before the escapes, so that a huge text costs no time
        text = _shortened(text, longest)
    if not text.isprintable():
        text = "".join(_escaped(character) for character in text)
    return _shortened(text, longest)


def one_line(text: object, longest: int = LONGEST) -> str:
    r"""As `printable`, with one space for each run of spaces, tabs and line breaks.

    Messages of parsers have several lines; error messages have one.

    >>> one_line("bad value\n  in line 3")
    'bad value in line 3'
    """
    return printable(" ".join(str(text).split()), longest)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = (longest - len(" ... ")) // 2
    return f"{text[:half]} ... {text[-half:]}"


def short(raw: object) -> str:
    """Python's text of a value, shortened; a number of thousands of digits has no text."""
    if type(raw) is int and abs(raw) >= 10**20:
        return f"a whole number of {int(raw.bit_length() * math.log10(2)) + 1} digits"
    text, most = repr(raw), _LONGEST_VALUE
    return printable(text if len(text) <= most else f"{text[: most - 3]}...", 5 * most)


def nearest(name: str, options: Iterable[str]) -> str:
    """End of an error message about an unknown name: the nearest option, or nothing.

    Args:
        name: the unknown name.
        options: the valid names.

    >>> nearest("dehase", ["dehaze", "derain"])
    "; did you mean 'dehaze'?"
    """
    near = difflib.get_close_matches(str(name), sorted(options), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


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
    return nearest(name, options) or f"; expected one of: {', '.join(options)}"
