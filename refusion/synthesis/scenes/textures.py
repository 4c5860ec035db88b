"""Patterns that materials are made of: noise, cells, tiles and strokes, each on a square torus.

What leaves one side comes in at the other, so that a pattern can be looked at from anywhere.
Cells are those of Worley (1996), noise has the power law spectrum of natural images (Field 1987).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@functools.lru_cache(maxsize=4)
def _frequencies(side: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.fft.fftfreq(side, 1 / side), torch.fft.rfftfreq(side, 1 / side)
    return rows[:, None], columns[None]


def spectral_noise(
    side: int,
    generator: Generator,
    *,
    slope: float,
    coarse: float = 4.0,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Gaussian noise whose amplitude falls with the frequency as a power.

    Args:
        side: of the field in pixels, even.
        generator: source of randomness.
        slope: the amplitude falls as f^-slope; 0 is white, 1 cloudy, 2 soft.
        coarse: cycles per side below which the amplitude no longer rises.
        stretch: how many times longer the structures are along (rows, columns).

    Returns:
        (side, side) float32 with zero mean and unit standard deviation.
    """
    rows, columns = _frequencies(side)
    square = (rows * stretch[0]) ** 2 + (columns * stretch[1]) ** 2
    amplitude = (square + coarse**2).pow_(-slope / 2)
    amplitude[0, 0] = 0
    spectrum = torch.randn(side, side // 2 + 1, 2, generator=generator).mul_(amplitude[..., None])
    field = torch.fft.irfft2(torch.view_as_complex(spectrum), s=(side, side))
    return field.div_(field.std().clamp_min(1e-12))


@dataclass(frozen=True)
class Cells:
    """Voronoi cells of jittered points.

    Attributes:
        index: (side, side) int64, which cell each pixel lies in, 0..count - 1.
        count: number of cells.
        border: (side, side) >= 0, 0 between two cells, about 1 in the middle of one.
    """

    index: Tensor
    count: int
    border: Tensor


def _spread(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """table[row, column] on the grid of all rows and columns; much faster than that."""
    return table.index_select(1, column).index_select(0, row)


def draw_cells(
    side: int, generator: Generator, across: tuple[int, int], jitter: float = 0.9
) -> Cells:
    """Cells of about equal size.

    Args:
        side: of the field in pixels.
        generator: source of randomness.
        across: number of cells along (rows, columns), at least 3 each.
        jitter: how far points leave the middle of their square, 0 a grid, 1 anywhere in it.
    """
    (down, right), points = across, torch.rand(2, *across, generator=generator)
    points = 0.5 + jitter * (points - 0.5)
    ids = torch.arange(down * right, dtype=torch.int32).view(down, right)
    rows = (torch.arange(side) + 0.5) * (down / side)
    columns = (torch.arange(side) + 0.5) * (right / side)
    near = torch.full((side, side), math.inf)
    second, index = near.clone(), torch.zeros(side, side, dtype=torch.int32)
    for step in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
        row, column = rows.long() + step[0], columns.long() + step[1]
        gap = (row - rows)[:, None], (column - columns)[None]
        row, column = row % down, column % right
        distance = _spread(points[0], row, column).add_(gap[0]).square_()
        distance += _spread(points[1], row, column).add_(gap[1]).square_()
        index = torch.where(distance < near, _spread(ids, row, column), index)
        second = torch.minimum(second, torch.maximum(near, distance))
        near = torch.minimum(near, distance)
    return Cells(index.long(), down * right, second.sqrt_() - near.sqrt_())


@dataclass(frozen=True)
class Tiles:
    """Rectangles in rows, as bricks, slabs and planks lie.

    Attributes:
        index: (side, side) int64, which tile each pixel lies in, 0..count - 1.
        count: number of tiles.
        border: (side, side), distance to the next joint's middle in parts of the side.
    """

    index: Tensor
    count: int
    border: Tensor


def lay_tiles(side: int, across: tuple[int, int], shifts: Tensor) -> Tiles:
    """Tiles on the whole torus.

    Args:
        side: of the field in pixels.
        across: number of tiles along (rows, columns).
        shifts: (rows,) how far each row is moved, in tiles: 0 in a grid, 0, 0.5, 0, ... for bricks.
    """
    down, right = across
    row = (torch.arange(side) + 0.5) * (down / side)
    line = row.long().clamp_max(down - 1)
    column = (torch.arange(side) + 0.5) * (right / side)
    column = (column[None] + shifts[line][:, None]) % right
    place = column.long().clamp_max(right - 1)
    vertical = (0.5 - (row - line - 0.5).abs()) / down
    horizontal = (0.5 - (column - place - 0.5).abs()) / right
    border = torch.minimum(vertical[:, None].expand_as(horizontal), horizontal)
    return Tiles(line[:, None] * right + place, down * right, border)


@dataclass(frozen=True)
class Strokes:
    """Thin curved blades and fibres over one another.

    Attributes:
        index: (side, side) int64, the topmost stroke of each pixel, -1 where there is none.
        depth: (side, side) in [0, 1], how high that one lies; 0 where there is none.
        along: (side, side) in [0, 1], from the root of the stroke to its tip.
    """

    index: Tensor
    depth: Tensor
    along: Tensor


def draw_strokes(
    side: int,
    generator: Generator,
    *,
    count: int,
    length: float,
    width: float,
    angle: tuple[float, float],
    curl: float = 0.6,
) -> Strokes:
    """Strokes at random places and heights.

    Args:
        side: of the field in pixels.
        generator: source of randomness.
        count: number of strokes.
        length: of the longest in pixels; they have half of that at least.
        width: in pixels at the root; they are pointed.
        angle: mean direction in radians, 0 is right, and standard deviation.
        curl: standard deviation of the angle by which they bend on their way.
    """
    steps = max(2, math.ceil(length))
    start = torch.rand(2, count, 1, generator=generator) * side
    turn, bend = torch.randn(2, count, 1, generator=generator)
    reach = length * (0.5 + 0.5 * torch.rand(count, 1, generator=generator))
    part = torch.linspace(0, 1, steps)[None]
    heading = angle[0] + angle[1] * turn + curl * bend * part
    down = start[0] + reach * torch.cumsum(torch.sin(heading), 1) / steps
    right = start[1] + reach * torch.cumsum(torch.cos(heading), 1) / steps
    # One number per point: its height, then which stroke it is of, then how far along; the largest
    # that falls on a pixel is what is seen there.
    height = torch.rand(count, 1, generator=generator)
    rank = ((height * 2**20).long() << 32) + (torch.arange(count)[:, None] << 8)
    rank = (rank + (part * 255).long()).view(-1)
    canvas = torch.full((side * side,), -1, dtype=torch.int64)
    lanes = max(1, round(width))
    for lane in range(lanes):
        offset = (lane - (lanes - 1) / 2) * (1 - part)
        row = (down + offset * torch.cos(heading)).long() % side
        column = (right - offset * torch.sin(heading)).long() % side
        canvas.scatter_reduce_(0, (row * side + column).view(-1), rank, "amax")
    return _read(canvas.view(side, side))


def _read(canvas: Tensor) -> Strokes:
    is_drawn = canvas >= 0
    index = torch.where(is_drawn, (canvas >> 8) & 0xFFFFFF, -1)
    depth = (canvas >> 32).float().div_(2**20).clamp_min_(0)
    return Strokes(index, depth, (canvas & 255).float().div_(255).mul_(is_drawn))
