"""Outlines of cast shadows: signed distances that can be evaluated at any point of a photo.

Lengths are in units of the photo's long side. Outlines know nothing of pixels, so that a crop of
any size, place and orientation sees its part of one and the same shadow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.randomness import randint, uniform
from refusion.synthesis.scenes.fields import wave_field

MAX_SEED = 2**62
GRID = 96  # long side of the grid on which fields are measured: 2.4 samples of the finest wave


@dataclass(frozen=True)
class Points:
    """Points of a photo on an upright grid, in units of its long side.

    Attributes:
        rows: (H, W) distance from the top.
        columns: (H, W) distance from the left.
        shift: (2, H, W) what the surface's relief adds to rows and columns, or None on a plane.
    """

    rows: Tensor
    columns: Tensor
    shift: Tensor | None = None

    def project(self, angle: float, origin: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """Distance from `origin` (row, column) along the direction `angle`; 0 is right, (H, W)."""
        down, right = math.sin(angle), math.cos(angle)
        along = (self.rows - origin[0]) * down + (self.columns - origin[1]) * right
        if self.shift is None:
            return along
        return along + self.shift[0] * down + self.shift[1] * right

    def block(self, top: int, bottom: int) -> Points:
        """The rows `top` to `bottom` (exclusive) of the grid."""
        shift = None if self.shift is None else self.shift[:, top:bottom]
        return Points(self.rows[top:bottom], self.columns[top:bottom], shift)

    def waves(self, seed: int, modes: int, decay: float) -> Tensor:
        """`wave_field` of that seed at these points, (H, W)."""
        generator = torch.Generator().manual_seed(seed)
        rows, columns = self.rows, self.columns
        if rows[0, 0] != rows[0, -1] or columns[0, 0] != columns[-1, 0]:
            return wave_field(rows[0], columns[:, 0], generator, modes=modes, decay=decay).T
        return wave_field(rows[:, 0], columns[0], generator, modes=modes, decay=decay)


@dataclass(frozen=True)
class Stage:
    """The whole photo that shadows are drawn for.

    Attributes:
        height: of the photo, in long sides.
        width: of the photo, in long sides.
        azimuth: direction in which shadows fall; 0 is right, pi / 2 down.
    """

    height: float
    width: float
    azimuth: float

    def grid(self, long_side: int = GRID) -> Points:
        """Coarse grid over the whole photo, at least 2 x 2."""
        axes = [
            (torch.arange(count) + 0.5) * (side / count)
            for side in (self.height, self.width)
            for count in [max(2, round(side * long_side))]
        ]
        return Points(*torch.meshgrid(*axes, indexing="ij"))

    def place(self, generator: Generator, margin: float) -> tuple[float, float]:
        """Random (row, column), up to `margin` of the side beyond the photo (inside if < 0)."""
        row = uniform(generator, -margin, 1 + margin) * self.height
        return row, uniform(generator, -margin, 1 + margin) * self.width


Outline = Callable[[Points], tuple[Tensor, Tensor]]
Waves = Callable[[Points], Tensor]


def draw_waves(generator: Generator, stage: Stage, modes: int, decay: float) -> Waves:
    """Random smooth function of place, of zero mean and unit deviation over the whole photo."""
    seed = int(torch.randint(MAX_SEED, (), generator=generator))
    sample = stage.grid().waves(seed, modes, decay)
    mean, deviation = float(sample.mean()), max(float(sample.std()), 1e-6)
    return lambda points: (points.waves(seed, modes, decay) - mean) / deviation


def _wall(generator: Generator, stage: Stage) -> Outline:
    """One edge, or the corner of two: buildings, roofs, whatever is larger than the frame."""
    corner = stage.place(generator, -0.05)
    angles = [uniform(generator, 0, 2 * math.pi)]
    if uniform(generator, 0, 1) < 0.6:
        angles.append(angles[0] + math.radians(uniform(generator, 40, 150)))
    is_convex = uniform(generator, 0, 1) < 0.5

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        sides = [points.project(angle, corner) for angle in angles]
        merge = torch.minimum if is_convex else torch.maximum
        distance = sides[0] if len(sides) == 1 else merge(*sides)
        return distance, points.project(stage.azimuth, corner).clamp_min(0)

    return outline


def _polygon(generator: Generator, stage: Stage) -> Outline:
    """Convex polygon of three to six sides: signs, boxes, parasols, cars."""
    centre, count = stage.place(generator, 0.1), randint(generator, 3, 6)
    turn, radius = uniform(generator, 0, 2 * math.pi), uniform(generator, 0.1, 0.4)
    sides = [
        (
            turn + 2 * math.pi * (side + uniform(generator, -0.3, 0.3)) / count,
            radius * uniform(generator, 0.5, 1.2),
        )
        for side in range(count)
    ]

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        distance = sides[0][1] - points.project(sides[0][0], centre)
        for angle, reach in sides[1:]:
            distance = torch.minimum(distance, reach - points.project(angle, centre))
        return distance, (points.project(stage.azimuth, centre) + radius).clamp_min(0)

    return outline


def _window(generator: Generator, stage: Stage) -> Outline:
    """Light through a window, everything around it and its bars in shadow; or a fence's bars."""
    centre, is_fence = stage.place(generator, -0.2), uniform(generator, 0, 1) < 0.4
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


def _branches(generator: Generator, stage: Stage) -> Outline:
    """A pole or a trunk along the light, with or without branches."""
    base, angle = stage.place(generator, 0.15), stage.azimuth + uniform(generator, -0.2, 0.2)
    length, radius = uniform(generator, 0.5, 1.6), uniform(generator, 0.006, 0.04)
    limbs = [(base, _beyond(base, angle, length), radius, radius * uniform(generator, 0.4, 1.0))]
    for _ in range(randint(generator, 0, 9)):
        start, end, thick, thin = limbs[randint(generator, 0, min(len(limbs), 3) - 1)]
        part, size = uniform(generator, 0.15, 0.95), uniform(generator, 0.1, 0.5)
        joint = tuple(a + part * (b - a) for a, b in zip(start, end, strict=True))
        side = 1 if uniform(generator, 0, 1) < 0.5 else -1
        turn = angle + side * math.radians(uniform(generator, 20, 75))
        root = 0.7 * (thick + part * (thin - thick))
        limbs.append((joint, _beyond(joint, turn, size), root, 0.3 * root))
    return _limbs_outline(limbs, base, stage.azimuth)


FIGURE = [
    ((0.0, 0.93), (0.0, 0.95), 0.065, 0.065),
    ((0.0, 0.80), (0.0, 0.48), 0.115, 0.10),
    ((-0.06, 0.48), (-0.09, 0.0), 0.065, 0.045),
    ((0.06, 0.48), (0.09, 0.0), 0.065, 0.045),
    ((-0.14, 0.78), (-0.2, 0.45), 0.04, 0.03),
    ((0.14, 0.78), (0.2, 0.45), 0.04, 0.03),
]
"""Limbs of a standing person of height 1: (across, up) of both ends, radius at both ends."""


def _figure(generator: Generator, stage: Stage) -> Outline:
    """A person or an object of a few lumps, standing at a point and falling along the light."""
    foot, length = stage.place(generator, 0.1), uniform(generator, 0.25, 1.0)
    stretch = uniform(generator, 0.4, 1.0) * min(length, 0.6)
    sway = uniform(generator, 0.0, 0.06)
    shape = FIGURE if uniform(generator, 0, 1) < 0.5 else _lumps(generator)
    across = stage.azimuth + math.pi / 2 + uniform(generator, -0.5, 0.5)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        aside = point[0] + uniform(generator, -sway, sway)
        return _beyond(_beyond(foot, across, stretch * aside), stage.azimuth, length * point[1])

    limbs = [(place(a), place(b), stretch * p, stretch * q) for a, b, p, q in shape]
    return _limbs_outline(limbs, foot, stage.azimuth)


def _blob(generator: Generator, stage: Stage) -> Outline:
    """Large soft clouds of shadow from something far off or out of sight."""
    waves = draw_waves(generator, stage, randint(generator, 2, 5), 1.0)
    level, height = uniform(generator, -0.8, 1.0), uniform(generator, 0.3, 2.0)
    slope = _slope(waves(stage.grid()))

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        distance = (waves(points) - level) / slope
        return distance, torch.full_like(distance, height)

    return outline


def _foliage(generator: Generator, stage: Stage) -> Outline:
    """Dappled light under a crown: two heights of leaves, inside the same clumps."""
    clumps, clumping = draw_waves(generator, stage, 5, 1.0), uniform(generator, 0.3, 1.5)
    height, layers = uniform(generator, 0.15, 0.6), []
    for modes in (randint(generator, 10, 30), randint(generator, 30, 80)):
        leaves = draw_waves(generator, stage, modes, uniform(generator, 0.2, 1.0))
        layers.append((leaves, uniform(generator, -0.5, 1.5), _slope(leaves(stage.grid()))))

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        crown = clumping * clumps(points)
        near, far = ((leaves(points) + crown - level) / slope for leaves, level, slope in layers)
        distance = torch.maximum(near, far)
        return distance, torch.full_like(distance, height)

    return outline


SHAPES: dict[str, Callable[[Generator, Stage], Outline]] = {
    "wall": _wall,
    "polygon": _polygon,
    "window": _window,
    "branches": _branches,
    "figure": _figure,
    "blob": _blob,
    "foliage": _foliage,
}
"""Kind -> (generator, stage) -> outline: points -> (distance, reach), both (H, W).

The distance is positive inside the shadow; the reach >= 0 is how far the shadow fell to get there.
"""


def _beyond(start: tuple[float, float], angle: float, length: float) -> tuple[float, float]:
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def _slope(field: Tensor) -> float:
    """Root mean square gradient of a field on the coarse grid, per long side."""
    squares = field.diff(dim=0).square().mean() + field.diff(dim=1).square().mean()
    return max(GRID * math.sqrt(float(squares)), 1e-3)


Limb = tuple[tuple[float, float], tuple[float, float], float, float]


def _lumps(generator: Generator) -> list[Limb]:
    """Stacked fat limbs: bottles, bushes, animals, bags."""
    lumps, up = [], 0.0
    for _ in range(randint(generator, 2, 5)):
        radius, wide = uniform(generator, 0.06, 0.3), uniform(generator, 0.0, 0.25)
        aside, size = uniform(generator, -0.15, 0.15), uniform(generator, 0.05, 0.3)
        lumps.append(((aside - wide, up), (aside + wide, up + size), radius, 0.9 * radius))
        up = min(up + size, 1.0)
    return lumps


def _limbs_outline(limbs: list[Limb], base: tuple[float, float], azimuth: float) -> Outline:
    """Union of tapered sticks with round ends."""

    def outline(points: Points) -> tuple[Tensor, Tensor]:
        down, right = points.project(math.pi / 2), points.project(0.0)
        distance = torch.full_like(down, -10.0)
        for start, end, thick, thin in limbs:
            y, x = end[0] - start[0], end[1] - start[1]
            part = ((down - start[0]) * y + (right - start[1]) * x) / max(y**2 + x**2, 1e-12)
            part = part.clamp_(0, 1)
            away = torch.hypot(down - start[0] - part * y, right - start[1] - part * x)
            distance = torch.maximum(distance, part.mul_(thin - thick).sub_(away).add_(thick))
        return distance, points.project(azimuth, base).clamp_min(0)

    return outline
