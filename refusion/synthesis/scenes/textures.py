"""Periodic patterns for materials: noise, cells, tiles and strokes.

All patterns are square and periodic in both directions, so they can be shifted without a seam. The
cells are those of Worley (1996); the noise has the power-law spectrum of natural images (Field
1987).
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
    """Periodic Gaussian noise with a power-law amplitude spectrum.

    Args:
        side: side of the field in pixels, even.
        generator: source of randomness.
        slope: the amplitude is f^-slope; 0 gives white noise, 1 cloud-like, 2 very smooth.
        coarse: frequency in cycles per side below which the amplitude is constant.
        stretch: factors by which structures are elongated along (rows, columns).

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
        index: (side, side) int64, number of the cell of each pixel, 0..count - 1.
        count: number of cells.
        border: (side, side) >= 0, 0 on the border of two cells, about 1 in the middle of a cell.
    """

    index: Tensor
    count: int
    border: Tensor


def _gather_grid(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Same as table[row[:, None], column[None]], but much faster."""
    return table.index_select(1, column).index_select(0, row)


def draw_cells(
    side: int, generator: Generator, across: tuple[int, int], jitter: float = 0.9
) -> Cells:
    """Generate Voronoi cells of about equal size.

    Args:
        side: side of the field in pixels.
        generator: source of randomness.
        across: number of cells along (rows, columns), at least 3 each.
        jitter: range of the point positions in their grid squares; 0 is the centre, 1 the square.
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
        distance = _gather_grid(points[0], row, column).add_(gap[0]).square_()
        distance += _gather_grid(points[1], row, column).add_(gap[1]).square_()
        index = torch.where(distance < near, _gather_grid(ids, row, column), index)
        second = torch.minimum(second, torch.maximum(near, distance))
        near = torch.minimum(near, distance)
    return Cells(index.long(), down * right, second.sqrt_() - near.sqrt_())


@dataclass(frozen=True)
class Tiles:
    """Rectangular tiles in rows, such as bricks, slabs and planks.

    Attributes:
        index: (side, side) int64, number of the tile of each pixel, 0..count - 1.
        count: number of tiles.
        border: (side, side), distance to the centre line of the next joint, relative to the side.
    """

    index: Tensor
    count: int
    border: Tensor


def lay_tiles(side: int, across: tuple[int, int], shifts: Tensor) -> Tiles:
    """Lay out tiles periodically.

    Args:
        side: side of the field in pixels.
        across: number of tiles along (rows, columns).
        shifts: (rows,) shift of each row in tiles: 0 for a grid; 0, 0.5, 0, ... for bricks.
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
    """Overlapping thin curved strokes, such as grass blades and fibres.

    Attributes:
        index: (side, side) int64, number of the topmost stroke of each pixel, -1 for none.
        depth: (side, side) in [0, 1], height of the topmost stroke; 0 for none.
        along: (side, side) in [0, 1], position along the stroke, 0 at its root, 1 at its tip.
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
    """Generate strokes at random positions and heights.

    Args:
        side: side of the field in pixels.
        generator: source of randomness.
        count: number of strokes.
        length: largest length of a stroke in pixels; the smallest is half of it.
        width: width at the root in pixels; it decreases to the tip.
        angle: mean and standard deviation of the direction in radians; 0 is right.
        curl: standard deviation of the change of direction along a stroke, in radians.
    """
    steps = max(2, math.ceil(length))
    start = torch.rand(2, count, 1, generator=generator) * side
    turn, bend = torch.randn(2, count, 1, generator=generator)
    reach = length * (0.5 + 0.5 * torch.rand(count, 1, generator=generator))
    part = torch.linspace(0, 1, steps)[None]
    heading = angle[0] + angle[1] * turn + curl * bend * part
    down = start[0] + reach * torch.cumsum(torch.sin(heading), 1) / steps
    right = start[1] + reach * torch.cumsum(torch.cos(heading), 1) / steps
    # One integer per point encodes height, stroke number and position along the stroke, in this
    # order of significance. The largest integer at a pixel is the topmost stroke.
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
    return _decode_canvas(canvas.view(side, side))


def _decode_canvas(canvas: Tensor) -> Strokes:
    is_drawn = canvas >= 0
    index = torch.where(is_drawn, (canvas >> 8) & 0xFFFFFF, -1)
    depth = (canvas >> 32).float().div_(2**20).clamp_min_(0)
    return Strokes(index, depth, (canvas & 255).float().div_(255).mul_(is_drawn))
