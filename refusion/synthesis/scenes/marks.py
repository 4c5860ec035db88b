"""Marks and objects on procedural surfaces: lines, signs, print, stains, cracks, litter, boxes.

Many marks are dark, so that a model learns that dark regions are not always shadows. Marks are
functions of the coordinates on the surface, in units of the long side of the photo; coordinates in
the photo are about -1/2 to 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.scenes.fields import smooth_field
from refusion.synthesis.scenes.materials import GRAVEL, LEAF, PAINT, PAPER, Colour, draw_colour
from refusion.synthesis.scenes.textures import draw_strokes

INK: tuple[Colour, ...] = (
    (0.08, 0.08, 0.09),
    (0.08, 0.08, 0.09),
    (0.05, 0.05, 0.05),
    (0.9, 0.9, 0.88),
    (0.9, 0.9, 0.88),
    (0.9, 0.68, 0.2),
    (0.75, 0.14, 0.12),
    (0.12, 0.25, 0.5),
    (0.15, 0.42, 0.25),
)


@dataclass(frozen=True)
class SurfacePoints:
    """Coordinates of the pixels of a photo on a surface, in a rotated and shifted frame.

    Attributes:
        rows: (H, W), in long sides of the photo.
        columns: (H, W), in long sides of the photo.
        pixel: approximate distance of neighbouring pixels, in long sides of the photo.
    """

    rows: Tensor
    columns: Tensor
    pixel: float

    def rotated(self, angle: float, origin: tuple[float, float]) -> SurfacePoints:
        """Coordinates in a frame with the given origin and direction of the column axis.

        Args:
            angle: direction of the new column axis in radians.
            origin: (row, column) in the present frame.
        """
        rows, columns = self.rows - origin[0], self.columns - origin[1]
        cos, sin = math.cos(angle), math.sin(angle)
        return SurfacePoints(rows * cos - columns * sin, columns * cos + rows * sin, self.pixel)

    def coverage(self, distance: Tensor, blur: float = 1.0) -> Tensor:
        """Pixel coverage in [0, 1] of a shape, anti-aliased.

        Args:
            distance: signed distance (H, W) to the border of the shape, negative coverage.
            blur: width of the border, in units of 1.5 pixels.
        """
        return (0.5 - distance / (1.5 * blur * self.pixel)).clamp_(0, 1)


MarkFunction = Callable[[Tensor, SurfacePoints, Generator], Tensor]


def _blend(image: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    return torch.lerp(image, colour.view(3, 1, 1).expand(3, 1, 1), cover)


def _box(points: SurfacePoints, height: float, width: float) -> Tensor:
    """Signed distance to a rectangle with the given half height and half width."""
    return torch.maximum(points.rows.abs() - height, points.columns.abs() - width)


def _lines(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """One line or several parallel lines, sometimes dashed, worn where the ground is high."""
    width = log_uniform(generator, 0.004, 0.05)
    distance = points.rows.abs() - width
    if bernoulli(generator, 0.3):
        period = width * uniform(generator, 2.5, 8)
        distance = ((points.rows + width) % period - width).abs() - width
        distance = torch.maximum(distance, points.rows.abs() - period * randint(generator, 1, 5))
    if bernoulli(generator, 0.35):
        dash = width * uniform(generator, 4, 15)
        distance = torch.maximum(distance, (points.columns % dash - dash / 2).abs() - dash / 3.2)
    cover = points.coverage(distance, uniform(generator, 1, 2))
    return _blend(image, draw_colour(generator, INK), cover * _wear(image, generator))


def _wear(image: Tensor, generator: Generator) -> Tensor:
    """Opacity of worn paint, (H, W) in [0, 1]: lower on pixels lighter than the mean."""
    if bernoulli(generator, 0.4):
        return torch.ones(())
    grain = image[1] / image[1].mean().clamp_min(1e-3) - 1
    patches = smooth_field((image.shape[1], image.shape[2]), generator, modes=24, decay=0.8)
    worn = 2.5 * grain + patches * uniform(generator, 0.1, 0.6)
    return (uniform(generator, 0.6, 1.2) - worn).clamp_(0, 1)


def _disc(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """A disc or ring, such as a manhole cover, a lid, a plate or the ring of a cup."""
    radius, flat = log_uniform(generator, 0.02, 0.2), uniform(generator, 0.5, 1)
    distance = torch.hypot(points.rows / flat, points.columns) - radius
    if bernoulli(generator, 0.3):
        distance = distance.abs() - radius * uniform(generator, 0.03, 0.3)
    return _blend(image, draw_colour(generator, INK + PAINT), points.coverage(distance))


def _sign(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """A board, label or leaflet with print and sometimes a frame."""
    height, width = log_uniform(generator, 0.06, 0.3), log_uniform(generator, 0.06, 0.3)
    outer = _box(points, height, width)
    image = _blend(image, draw_colour(generator, PAPER + PAINT), points.coverage(outer))
    ink = draw_colour(generator, INK)
    if bernoulli(generator, 0.4):
        rim = (outer + 0.15 * min(height, width)).abs() - 0.02 * min(height, width)
        image = _blend(image, ink, points.coverage(rim))
    return _blend(image, ink, _letters(points, 0.75 * height, 0.75 * width, generator))


def _print(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """Letters printed on the surface."""
    height = log_uniform(generator, 0.04, 0.25)
    cover = _letters(points, height, height * uniform(generator, 1, 3), generator)
    return _blend(image, draw_colour(generator, INK), cover * _wear(image, generator))


def _letters(points: SurfacePoints, height: float, width: float, generator: Generator) -> Tensor:
    """Coverage by lines of letter-like shapes: random segments of a seven-segment display."""
    lines = randint(generator, 1, 4)
    columns = max(2, round(lines * width / height * uniform(generator, 0.9, 1.8)))
    bars = (torch.rand(7, lines, columns, generator=generator) < 0.6).float()
    bars = bars * (torch.rand(lines, columns, generator=generator) < 0.88)
    cell = torch.zeros(lines, columns, 13, 9)
    for bar, bar_rows, bar_columns in zip(
        bars,
        (slice(2, 4), slice(5, 7), slice(9, 11), *2 * (slice(2, 7), slice(6, 11))),
        (*3 * (slice(1, 7),), *2 * (slice(1, 3),), *2 * (slice(5, 7),)),
        strict=True,
    ):
        region = cell[..., bar_rows, bar_columns]
        cell[..., bar_rows, bar_columns] = torch.maximum(region, bar[..., None, None])
    sheet = cell.permute(0, 2, 1, 3).reshape(1, 1, lines * 13, columns * 9)
    grid = torch.stack([points.columns / width, points.rows / height], dim=-1)[None]
    sampled = F.grid_sample(sheet, grid, align_corners=False)[0, 0]
    return sampled.sub_(0.5).mul_(3).add_(0.5).clamp_(0, 1)


def _object(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """A box or a board: two faces of one colour with different brightness."""
    height, width = log_uniform(generator, 0.03, 0.2), log_uniform(generator, 0.05, 0.3)
    colour = draw_colour(generator, INK + PAINT, 0.2)
    edge = points.rows - uniform(generator, -0.6, 0.6) * height
    edge = edge - uniform(generator, -0.4, 0.4) * points.columns
    light, dark = uniform(generator, 0.9, 1.2), uniform(generator, 0.5, 0.9)
    faces = dark + (light - dark) * points.coverage(edge)
    faces = faces * (1 + points.columns * uniform(generator, -1, 1))
    grain = 1 + 0.3 * (image / image.mean().clamp_min(1e-3) - 1) * uniform(generator, 0, 1)
    face = (colour.view(3, 1, 1) * faces * grain).clamp_(0, 1)
    return torch.lerp(image, face, points.coverage(_box(points, height, width)))


def _stain(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """A stain of water, oil, tar or bleach: a ragged patch, transparent or opaque."""
    size = (image.shape[1], image.shape[2])
    modes = randint(generator, 25, 90)
    field = smooth_field(size, generator, modes=modes, decay=uniform(generator, 0.7, 1.1))
    radius = log_uniform(generator, 0.05, 0.5)
    near = 1 - torch.hypot(points.rows, points.columns) / radius
    cover = points.coverage(-(field * 0.35 + near) * radius, uniform(generator, 2, 8))
    if bernoulli(generator, 0.7):
        # More ragged and paler than a shadow, so that the two can be distinguished.
        factor = draw_colour(generator, GRAVEL, 0.25).mul_(0.5) + uniform(generator, 0.3, 0.8)
        return torch.lerp(image, image * factor.view(3, 1, 1), cover)
    return _blend(image, draw_colour(generator, INK + GRAVEL), cover * uniform(generator, 0.3, 0.9))


def _cracks(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """Cracks or ink scribble: thin lines along the zero crossings of a random field."""
    size = (image.shape[1], image.shape[2])
    field = smooth_field(size, generator, modes=randint(generator, 3, 30), decay=1.3)
    steep = F.pad(torch.hypot(field.diff(dim=0)[:, 1:], field.diff(dim=1)[1:]), (1, 0, 1, 0))
    distance = field.abs() / steep.clamp_min(1e-4) - uniform(generator, 0.2, 1.6)
    limit = torch.hypot(points.rows, points.columns) - uniform(generator, 0.15, 0.7)
    cover = (0.5 - distance).clamp_(0, 1) * points.coverage(limit)
    ink = (0.15, 0.14, 0.12) if bernoulli(generator, 0.7) else INK[randint(generator, 0, 8)]
    return _blend(image, torch.tensor(ink), cover * uniform(generator, 0.4, 0.95))


def _litter(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """Scattered leaves, needles, twigs and chips."""
    height, width = image.shape[1:]
    length = max(height, width) * log_uniform(generator, 0.008, 0.06)
    strokes = draw_strokes(
        max(height, width),
        generator,
        count=round(log_uniform(generator, 10, 300)),
        length=length,
        width=max(1.0, length * uniform(generator, 0.05, 0.4)),
        angle=(0.0, 3.0),
        curl=1.0,
    )
    index = strokes.index[:height, :width]
    colour = draw_colour(generator, LEAF + GRAVEL + INK, 0.2)
    shade = 0.7 + 0.5 * strokes.depth[:height, :width]
    return torch.where(index >= 0, colour.view(3, 1, 1) * shade, image)


MARKS: tuple[tuple[MarkFunction, float], ...] = (
    (_lines, 0.2),
    (_disc, 0.07),
    (_sign, 0.12),
    (_print, 0.12),
    (_object, 0.13),
    (_stain, 0.18),
    (_cracks, 0.1),
    (_litter, 0.08),
)


def add_mark(image: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """Add a random mark to a surface, at a random position and angle.

    Args:
        image: (3, H, W), about [0, 1], the surface as the camera sees it.
        points: coordinates of its pixels on the surface.
        generator: source of randomness.

    Returns:
        (3, H, W), about [0, 1].
    """
    weights = torch.tensor([weight for _, weight in MARKS])
    kind = int(torch.multinomial(weights, 1, generator=generator))
    row, column = torch.rand(2, generator=generator).sub(0.5).tolist()
    angle = uniform(generator, -math.pi, math.pi)
    if bernoulli(generator, 0.6):
        angle = uniform(generator, -0.2, 0.2)
    return MARKS[kind][0](image, points.rotated(angle, (0.9 * row, 0.9 * column)), generator)
