"""Outlines of cast shadows as signed distance functions over a photo.

Lengths are in units of the long side of the photo. Outlines do not depend on a pixel grid, so a
crop of any size, position and orientation gets its part of the same shadow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.randomness import randint, uniform
from refusion.synthesis.scenes.fields import WaveField

MAX_SEED = 2**62
GRID = (
    96  # long side of the grid for statistics of fields: 2.4 samples per period of the finest wave
)


@dataclass(frozen=True)
class Points:
    """Points of a photo on a rectangular grid, in units of its long side.

    Attributes:
        rows: (H, W) distance from the top.
        columns: (H, W) distance from the left.
        relief: (H, W) displacement of the points by relief, or None for a flat surface.
        azimuth: direction of that displacement, in radians; 0 is right, pi / 2 is down.
    """

    rows: Tensor
    columns: Tensor
    relief: Tensor | None = None
    azimuth: float = 0.0

    def axes(self) -> tuple[Tensor, Tensor]:
        """Rows and columns, of which an expanded dimension has one value: (H, 1) and (1, W)."""
        rows, columns = (
            axis[: 1 if axis.stride(0) == 0 else None, : 1 if axis.stride(1) == 0 else None]
            for axis in (self.rows, self.columns)
        )
        return rows, columns

    def project(self, angle: float, origin: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """Signed distance (H, W) from `origin` (row, column) in the direction `angle`.

        Args:
            angle: in radians; 0 is right, pi / 2 is down.
            origin: (row, column) in long sides.
        """
        down, right = math.sin(angle), math.cos(angle)
        rows, columns = self.axes()
        along = (rows - origin[0]) * down + (columns - origin[1]) * right
        if self.relief is None:
            return along
        return along.add_(self.relief, alpha=math.cos(angle - self.azimuth))

    def block(self, top: int, bottom: int) -> Points:
        """Part of the grid: rows `top` to `bottom`, exclusive."""
        relief = None if self.relief is None else self.relief[top:bottom]
        return Points(self.rows[top:bottom], self.columns[top:bottom], relief, self.azimuth)

    def waves(self, field: WaveField) -> Tensor:
        """Evaluate a field at these points, (H, W) float32; without relief."""
        rows, columns = self.rows, self.columns
        if rows[0, 0] != rows[0, -1] or columns[0, 0] != columns[-1, 0]:
            return field.at(rows[0], columns[:, 0]).T
        return field.at(rows[:, 0], columns[0])


@dataclass(frozen=True)
class ShadowScene:
    """Size of the whole photo and direction of its shadows.

    Attributes:
        height: height of the photo, in long sides.
        width: width of the photo, in long sides.
        azimuth: direction in which shadows fall, in radians; 0 is right, pi / 2 is down.
    """

    height: float
    width: float
    azimuth: float

    def grid(self, long_side: int = GRID) -> Points:
        """Coarse grid over the whole photo, `long_side` points long, at least 2 x 2."""
        axes = [
            (torch.arange(count) + 0.5) * (side / count)
            for side in (self.height, self.width)
            for count in [max(2, round(side * long_side))]
        ]
        return Points(*torch.meshgrid(*axes, indexing="ij"))

    def random_point(self, generator: Generator, margin: float) -> tuple[float, float]:
        """Random (row, column) in the photo.

        Args:
            generator: source of randomness.
            margin: extension of the area relative to each side; negative values shrink it.
        """
        row = uniform(generator, -margin, 1 + margin) * self.height
        return row, uniform(generator, -margin, 1 + margin) * self.width


Outline = Callable[[Points], tuple[Tensor, Tensor]]
Waves = Callable[[Points], Tensor]


def draw_waves(generator: Generator, scene: ShadowScene, modes: int, decay: float) -> Waves:
    """Random smooth function of points, with zero mean and unit standard deviation on the photo.

    Args:
        generator: source of randomness.
        scene: the whole photo.
        modes: largest number of half periods along the long side.
        decay: exponent of the amplitude, see `WaveField`.
    """
    seed = int(torch.randint(MAX_SEED, (), generator=generator))
    field = WaveField.draw(torch.Generator().manual_seed(seed), modes=modes, decay=decay)
    sample = scene.grid().waves(field)
    mean, deviation = float(sample.mean()), max(float(sample.std()), 1e-6)
    return lambda points: points.waves(field).sub_(mean).div_(deviation)


def _wall(generator: Generator, scene: ShadowScene) -> Outline:
    """One straight edge or a corner: buildings, roofs and other objects larger than the photo."""
    corner = scene.random_point(generator, -0.05)
    angles = [uniform(generator, 0, 2 * math.pi)]
    if uniform(generator, 0, 1) < 0.6:
        angles.append(angles[0] + math.radians(uniform(generator, 40, 150)))
    is_convex = uniform(generator, 0, 1) < 0.5

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        sides = [points.project(angle, corner) for angle in angles]
        merge = torch.minimum if is_convex else torch.maximum
        distance = sides[0] if len(sides) == 1 else merge(*sides)
        return distance, points.project(scene.azimuth, corner).clamp_min(0)

    return outline


def _polygon(generator: Generator, scene: ShadowScene) -> Outline:
    """Convex polygon of three to six sides: signs, boxes, parasols, cars."""
    centre, count = scene.random_point(generator, 0.1), randint(generator, 3, 6)
    rotation, radius = uniform(generator, 0, 2 * math.pi), uniform(generator, 0.1, 0.4)
    sides = [
        (
            rotation + 2 * math.pi * (side + uniform(generator, -0.3, 0.3)) / count,
            radius * uniform(generator, 0.5, 1.2),
        )
        for side in range(count)
    ]

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        distance = sides[0][1] - points.project(sides[0][0], centre)
        for angle, reach in sides[1:]:
            distance = torch.minimum(distance, reach - points.project(angle, centre))
        return distance, (points.project(scene.azimuth, centre) + radius).clamp_min(0)

    return outline


def _window(generator: Generator, scene: ShadowScene) -> Outline:
    """Light through a window, with shadow around it and from its bars; or the shadow of a fence."""
    centre, is_fence = scene.random_point(generator, -0.2), uniform(generator, 0, 1) < 0.4
    first = uniform(generator, 0, math.pi)
    angles = (first, first + math.radians(uniform(generator, 60, 120)))
    halves = [uniform(generator, 0.2, 0.5) for _ in angles]
    counts = [randint(generator, 1, 4) for _ in angles]
    if is_fence:
        counts = [randint(generator, 4, 12), randint(generator, 0, 2)]
        halves = [uniform(generator, 0.4, 1.0), uniform(generator, 0.2, 1.0)]
    bar = uniform(generator, 0.005, 0.02)
    height = uniform(generator, 0.0, 0.5)

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        across = [points.project(angle, centre) for angle in angles]
        frame = torch.maximum(*(a.abs() - half for a, half in zip(across, halves, strict=True)))
        bars = torch.full_like(frame, -1.0)
        for a, half, count in zip(across, halves, counts, strict=True):
            if count > 0:
                pitch = 2 * half / count
                bars = torch.maximum(bars, bar - (torch.remainder(a, pitch) - pitch / 2).abs())
        distance = torch.minimum(bars, -frame) if is_fence else torch.maximum(bars, frame)
        return distance, torch.full_like(distance, height)

    return outline


def _branches(generator: Generator, scene: ShadowScene) -> Outline:
    """A pole or a trunk in the direction of the light, with or without branches."""
    base, angle = scene.random_point(generator, 0.15), scene.azimuth + uniform(generator, -0.2, 0.2)
    length, radius = uniform(generator, 0.5, 1.6), uniform(generator, 0.006, 0.04)
    limbs = [(base, _move(base, angle, length), radius, radius * uniform(generator, 0.4, 1.0))]
    for _ in range(randint(generator, 0, 9)):
        start, end, thick, thin = limbs[randint(generator, 0, min(len(limbs), 3) - 1)]
        part, size = uniform(generator, 0.15, 0.95), uniform(generator, 0.1, 0.5)
        joint = tuple(a + part * (b - a) for a, b in zip(start, end, strict=True))
        side = 1 if uniform(generator, 0, 1) < 0.5 else -1
        rotation = angle + side * math.radians(uniform(generator, 20, 75))
        root = 0.7 * (thick + part * (thin - thick))
        limbs.append((joint, _move(joint, rotation, size), root, 0.3 * root))
    return _limbs_outline(limbs, base, scene.azimuth)


FIGURE = [
    ((0.0, 0.93), (0.0, 0.95), 0.065, 0.065),
    ((0.0, 0.80), (0.0, 0.48), 0.115, 0.10),
    ((-0.06, 0.48), (-0.09, 0.0), 0.065, 0.045),
    ((0.06, 0.48), (0.09, 0.0), 0.065, 0.045),
    ((-0.14, 0.78), (-0.2, 0.45), 0.04, 0.03),
    ((0.14, 0.78), (0.2, 0.45), 0.04, 0.03),
]
"""Limbs of a standing person of height 1: (across, up) of both ends, then both radii."""


def _figure(generator: Generator, scene: ShadowScene) -> Outline:
    """Shadow of a standing person, or of an object made of a few rounded parts."""
    foot, length = scene.random_point(generator, 0.1), uniform(generator, 0.25, 1.0)
    stretch = uniform(generator, 0.4, 1.0) * min(length, 0.6)
    sway = uniform(generator, 0.0, 0.06)
    shape = FIGURE if uniform(generator, 0, 1) < 0.5 else _lumps(generator)
    across = scene.azimuth + math.pi / 2 + uniform(generator, -0.5, 0.5)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        aside = point[0] + uniform(generator, -sway, sway)
        return _move(_move(foot, across, stretch * aside), scene.azimuth, length * point[1])

    limbs = [(place(a), place(b), stretch * p, stretch * q) for a, b, p, q in shape]
    return _limbs_outline(limbs, foot, scene.azimuth)


def _blob(generator: Generator, scene: ShadowScene) -> Outline:
    """Large soft shadows of distant or invisible objects."""
    waves = draw_waves(generator, scene, randint(generator, 2, 5), 1.0)
    level, height = uniform(generator, -0.8, 1.0), uniform(generator, 0.3, 2.0)
    slope = _rms_gradient(waves(scene.grid()))

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        distance = (waves(points) - level) / slope
        return distance, torch.full_like(distance, height)

    return outline


def _foliage(generator: Generator, scene: ShadowScene) -> Outline:
    """Dappled light under a tree: two layers of leaves in the same clumps."""
    clumps, clumping = draw_waves(generator, scene, 5, 1.0), uniform(generator, 0.3, 1.5)
    height, layers = uniform(generator, 0.15, 0.6), []
    for modes in (randint(generator, 10, 30), randint(generator, 30, 80)):
        leaves = draw_waves(generator, scene, modes, uniform(generator, 0.2, 1.0))
        layers.append((leaves, uniform(generator, -0.5, 1.5), _rms_gradient(leaves(scene.grid()))))

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        crown = clumping * clumps(points)
        near, far = ((leaves(points) + crown - level) / slope for leaves, level, slope in layers)
        distance = torch.maximum(near, far)
        return distance, torch.full_like(distance, height)

    return outline


SHAPES: dict[str, Callable[[Generator, ShadowScene], Outline]] = {
    "wall": _wall,
    "polygon": _polygon,
    "window": _window,
    "branches": _branches,
    "figure": _figure,
    "blob": _blob,
    "foliage": _foliage,
}
"""Shapes by name: (generator, scene) -> outline; outline: points -> (distance, reach), both (H, W).

The distance is positive inside the shadow. The reach, >= 0, is the distance from the object that
casts the shadow, in long sides.
"""


def _move(start: tuple[float, float], angle: float, length: float) -> tuple[float, float]:
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def _rms_gradient(field: Tensor) -> float:
    """Root mean square of the gradient of a field on the coarse grid, per long side."""
    squares = field.diff(dim=0).square().mean() + field.diff(dim=1).square().mean()
    return max(GRID * math.sqrt(float(squares)), 1e-3)


Limb = tuple[tuple[float, float], tuple[float, float], float, float]


def _lumps(generator: Generator) -> list[Limb]:
    """Stacked thick limbs: bottles, bushes, animals, bags."""
    lumps, up = [], 0.0
    for _ in range(randint(generator, 2, 5)):
        radius, wide = uniform(generator, 0.06, 0.3), uniform(generator, 0.0, 0.25)
        aside, size = uniform(generator, -0.15, 0.15), uniform(generator, 0.05, 0.3)
        lumps.append(((aside - wide, up), (aside + wide, up + size), radius, 0.9 * radius))
        up = min(up + size, 1.0)
    return lumps


def _limbs_outline(limbs: list[Limb], base: tuple[float, float], azimuth: float) -> Outline:
    """Outline of the union of tapered limbs with round ends."""

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        down, right = points.project(math.pi / 2), points.project(0.0)
        distance = torch.full_like(down, -10.0)
        for start, end, thick, thin in limbs:
            y, x = end[0] - start[0], end[1] - start[1]
            scale = 1 / max(y**2 + x**2, 1e-12)
            below, beside = down - start[0], right - start[1]
            part = (below * (y * scale)).add_(beside, alpha=x * scale).clamp_(0, 1)
            below.sub_(part, alpha=y).square_()
            away = below.add_(beside.sub_(part, alpha=x).square_()).sqrt_()
            distance = torch.maximum(distance, part.mul_(thin - thick).sub_(away).add_(thick))
        return distance, points.project(azimuth, base).clamp_min(0)

    return outline
