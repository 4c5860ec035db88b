"""Values of options: numbers of several ranges, and the name of an option in a message.

Imports no other option group and nothing that needs PyTorch, so every program can use them.
"""

from __future__ import annotations

import argparse
import math

from refusion.errors import printable
from refusion.hints import LARGEST_INT, LARGEST_SEED


def whole_between(text: str, low: int, high: int) -> int:
    """A whole number within limits, in the digits 0 to 9.

    Raises:
        argparse.ArgumentTypeError: the text is no such number.
    """
    digits = text.removeprefix("-")
    is_short = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(high))
    if not is_short or not low <= int(text) <= high:
        shown = printable(text, 40)
        raise argparse.ArgumentTypeError(
            f"expected a whole number from {low} to {high}, got '{shown}'"
        )
    return int(text)


def count(text: str) -> int:
    """Option type: an integer, 1 to 10^9."""
    return whole_between(text, 1, LARGEST_INT)


def whole(text: str) -> int:
    """Option type: an integer, 0 to 10^9."""
    return whole_between(text, 0, LARGEST_INT)


def integer(text: str) -> int:
    """Option type: an integer of at most 64 bits."""
    return whole_between(text, -LARGEST_SEED, LARGEST_SEED)


def share(text: str) -> float:
    """Option type: a number from 0 to 1."""
    value = finite_number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a number from 0 to 1, got '{printable(text, 40)}'"
        )
    return value


def positive(text: str) -> float:
    """Option type: a number above 0."""
    value = finite_number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{printable(text, 40)}'")
    return value


def finite_number(text: str) -> float:
    """Option type: a finite number, in the digits 0 to 9."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got '{printable(text, 40)}'")
    return value


def number_or_percent(text: str) -> float:
    """Option type: a finite number, or a hundredth of it where it ends with a percent sign."""
    return finite_number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


def option_name(key: str) -> str:
    """Name of an option on the command line, from its key in the parsed options."""
    return f"--{key.replace('_', '-')}"
