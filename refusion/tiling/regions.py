"""Rectangular regions of a map, and the division of a map into tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from refusion.errors import ConfigError

TileProgress = Callable[[int, int], None]
"""Called as `(done, total)` after each tile."""


@dataclass(frozen=True)
class Region:
    """Rectangle of a map: rows top..bottom - 1, columns left..right - 1, in pixels of the map."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, halo: int, height: int, width: int) -> Region:
        """This region enlarged by `halo` pixels on each side, clipped to a height x width map."""
        return Region(
            max(0, self.top - halo),
            min(height, self.bottom + halo),
            max(0, self.left - halo),
            min(width, self.right + halo),
        )

    def within(self, outer: Region) -> Region:
        """This region in the coordinates of `outer`, a region that contains it."""
        return Region(
            self.top - outer.top,
            self.bottom - outer.top,
            self.left - outer.left,
            self.right - outer.left,
        )

    def divided(self, factor: int) -> Region:
        """This region in a map `factor` times smaller; all edges are multiples of `factor`."""
        return Region(*(edge // factor for edge in (self.top, self.bottom, self.left, self.right)))

    def cut(self, x: Tensor) -> Tensor:
        """View of this region of x (..., H, W)."""
        return x[..., self.top : self.bottom, self.left : self.right]


def tile_regions(height: int, width: int, tile: int, align: int) -> list[Region]:
    """Divide a map into tiles of nearly equal size without overlap, in row-major order.

    Args:
        height: rows, a multiple of `align`.
        width: columns, a multiple of `align`.
        tile: maximum side, >= 1; rounded down to a multiple of `align`, but at least `align`.
        align: tiles start and end at multiples of this number.

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
