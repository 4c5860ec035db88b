"""Values of options: numbers of several ranges, and the name of an option in a message.

Imports no other option group and nothing that needs PyTorch, so every program can use them.
"""

from __future__ import annotations

import argparse
import math

from refusion.errors import printable
from refusion.hints import LARGEST_INT


def count(text: str) -> int:
    """Option type: an integer, 1 to 10^9."""
    is_short = text.isdecimal() and len(text) <= len(str(LARGEST_INT))
    if not is_short or not 1 <= int(text) <= LARGEST_INT:
        shown = printable(text, 40)
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{shown}'")
    return int(text)


def whole(text: str) -> int:
    """Option type: an integer, 0 or larger."""
    return 0 if text == "0" else count(text)


def share(text: str) -> float:
    """Option type: a number from 0 to 1."""
    value = finite_number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return value


def positive(text: str) -> float:
    """Option type: a number above 0."""
    value = finite_number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return value


def finite_number(text: str) -> float:
    """Option type: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got '{text}'")
    return value


def number_or_percent(text: str) -> float:
    """Option type: a finite number, or a hundredth of it where it ends with a percent sign."""
    return finite_number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


def option_name(key: str) -> str:
    """Name of an option on the command line, from its key in the parsed options."""
    return f"--{key.replace('_', '-')}"
