"""Rectangles of a map, and cutting a map into them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from refusion.errors import ConfigError


@dataclass(frozen=True)
class Region:
    """Rectangle of a map: rows top..bottom - 1, columns left..right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, halo: int, height: int, width: int) -> Region:
        """This region with `halo` pixels more on each side, as far as the map goes."""
        return Region(
            max(0, self.top - halo),
            min(height, self.bottom + halo),
            max(0, self.left - halo),
            min(width, self.right + halo),
        )

    def within(self, outer: Region) -> Region:
        """This region in the coordinates of `outer`."""
        return Region(
            self.top - outer.top,
            self.bottom - outer.top,
            self.left - outer.left,
            self.right - outer.left,
        )

    def divided(self, factor: int) -> Region:
        """This region in a map `factor` times smaller."""
        return Region(*(edge // factor for edge in (self.top, self.bottom, self.left, self.right)))

    def cut(self, x: Tensor) -> Tensor:
        """View of this region of x (..., H, W)."""
        return x[..., self.top : self.bottom, self.left : self.right]


def tile_regions(height: int, width: int, tile: int, align: int) -> list[Region]:
    """Cut a map into tiles of nearly equal size, none larger than `tile`, row by row.

    Args:
        height: rows, a multiple of `align`.
        width: columns, a multiple of `align`.
        tile: largest side, rounded down to `align` but not below it.
        align: tiles start and end at multiples of this.

    Raises:
        ConfigError: tile < 1.

    >>> [(r.left, r.right) for r in tile_regions(8, 40, 16, 8)]
    [(0, 8), (8, 24), (24, 40)]
    """
    if tile < 1:
        raise ConfigError(f"tile: expected a side of at least 1 pixel, got {tile}")
    rows, columns = _edges(height, tile, align), _edges(width, tile, align)
    return [
        Region(top, bottom, left, right)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def _edges(length: int, tile: int, align: int) -> list[int]:
    cells = length // align
    pieces = -(-cells // max(1, tile // align))
    return [cells * i // pieces * align for i in range(pieces + 1)]
