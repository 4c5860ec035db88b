"""Annotations of settings: ranges of numbers, lengths of lists, paths.

A parameter of a component or a field of a section says its range in its annotation, for example
`width: Channels` or `share: Annotated[float, Bound(0, 1)]`. `refusion.config.parser` checks it
before anything is built, and `refusion schema` describes it. Numbers, lists and texts without a
declared range have the limits `LARGEST_INT`, `LARGEST_FLOAT`, `LONGEST_LIST` and `LONGEST_TEXT`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

T = TypeVar("T")

LARGEST_INT = 10**9
LARGEST_FLOAT = 1e15
LONGEST_LIST = 10_000
LONGEST_TEXT = 100_000


@dataclass(frozen=True)
class Bound:
    """Limits of a number: low <= value <= high, or low < value <= high if `above` is true.

    In the annotation of a list it holds for every number in the list.
    """

    low: float
    high: float = math.inf
    above: bool = False

    def __str__(self) -> str:
        """Return the limits as text, for error messages."""
        low = f"above {limit_text(self.low)}" if self.above else f"at least {limit_text(self.low)}"
        return low if self.high == math.inf else f"{low} and at most {limit_text(self.high)}"

    def holds(self, value: float) -> bool:
        """Whether `value` is within the limits."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high


@dataclass(frozen=True)
class Length:
    """Limits of the number of values in a list."""

    low: int
    high: int = LONGEST_LIST


@dataclass(frozen=True)
class IsPath:
    """The text is a path, in which `~`, `$NAME` and `${NAME}` are replaced."""


def first_note(notes: Iterable[object], kind: type[T]) -> T | None:
    """The first note of a class in an annotation; None without one."""
    return next((note for note in notes if isinstance(note, kind)), None)


def limit_text(limit: float) -> str:
    """A limit in an error message."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


PathText = Annotated[str, IsPath()]
Count = Annotated[int, Bound(1)]
"""A number of things, at least one."""
Whole = Annotated[int, Bound(0)]
"""A number of things, or zero."""
LARGEST_SEED = 2**63 - 1
Seed = Annotated[int, Bound(0, LARGEST_SEED)]
Positive = Annotated[float, Bound(0, above=True)]
Share = Annotated[float, Bound(0, 1)]
Pixels = Annotated[int, Bound(1, 2**16)]
"""A side in pixels."""
PatchSide = Annotated[int, Bound(1, 2**13)]
"""Side in pixels of a training patch; the largest has 0.8 GB."""
Scale = Annotated[int, Bound(1, 64)]
"""Pixels of a photo per pixel of its reduced copy and axis."""

MOST_STEPS = 10**5
NumberOfSteps = Annotated[int, Bound(1, MOST_STEPS)]
"""Steps of a process; its coefficients are arrays of this length."""
Channels = Annotated[int, Bound(1, 4096)]
Blocks = Annotated[int, Bound(0, 256)]
"""A number of layers at one level of a network."""
Levels = Annotated[Sequence[Blocks], Length(1, 8)]
"""Blocks of each level of a network; each level has half the height and width of the one before."""
