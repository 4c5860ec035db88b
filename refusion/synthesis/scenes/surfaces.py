"""Procedural photos of clean surfaces: ground, walls and tables that shadows fall on.

A scene shows one material, or two that meet, seen at an angle, under uneven light, with objects and
paint on it. Photo collections rarely show bare ground, but shadow data sets often do.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.scenes.fields import smooth_field
from refusion.synthesis.scenes.marks import SurfacePoints, add_mark
from refusion.synthesis.scenes.materials import STONE, WARM, draw_colour, draw_material

BORDER_SHARE = 0.35  # share of the scenes with two materials
TILT = 0.6  # largest change of the distance across the photo, relative
ZOOM = (0.6, 1.0)  # part of a texture that the long side of the photo spans at its middle
MARKS = (0, 4)  # smallest and largest number of marks; small numbers are more likely
GREY = 0.47  # target of the mean brightness
WHITE = 0.95  # at most a tenth of the pixels may be brighter, to limit clipping
NOISE = (0.001, 0.02)  # standard deviation of the sensor noise, display values


def draw_surface(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Generate a clean photo of a surface; its dark regions are material or paint, not shadow.

    Args:
        generator: source of randomness; the same state gives the same scene.
        size: (H, W) in pixels, at least 16 each.

    Returns:
        (3, H, W) float32 in [0, 1], display values.
    """
    side = 2 * math.ceil(max(size) / 2)
    sun = uniform(generator, 0, 2 * math.pi), log_uniform(generator, 0.5, 2.5)
    points = _project_pixels(size, generator)
    scene = _sample_texture(draw_material(side, generator).lit(*sun), points, generator)
    if bernoulli(generator, BORDER_SHARE):
        other = _sample_texture(draw_material(side, generator).lit(*sun), points, generator)
        scene = _join_materials(scene, other, points, generator)
    image = scene[:3]
    low, high = MARKS
    for _ in range(round(low + (high - low) * uniform(generator, 0, 1) ** 2)):
        image = add_mark(image, points, generator)
    return _photograph(_illuminate(image, generator), generator)


def _project_pixels(size: tuple[int, int], generator: Generator) -> SurfacePoints:
    """Coordinates of the camera pixels on a tilted plane; the far side is most often at the top."""
    long_side = max(size)
    rows, columns = (
        (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) / long_side for side in size
    )
    angle = math.pi / 2 + uniform(generator, 0, 1) ** 3 * uniform(generator, -math.pi, math.pi)
    tilt = TILT * uniform(generator, 0, 1) * bernoulli(generator, 0.7)
    depth = (rows[:, None] * math.sin(angle) + columns[None] * math.cos(angle)).mul_(tilt).add_(1)
    return SurfacePoints(rows[:, None] / depth, columns[None] / depth, 1 / long_side)


def _sample_texture(texture: Tensor, points: SurfacePoints, generator: Generator) -> Tensor:
    """Sample a texture (C, side, side) on the plane, (C, H, W); half of them axis-aligned."""
    turn = math.pi / 2 * randint(generator, 0, 3) + uniform(generator, -0.08, 0.08)
    if bernoulli(generator, 0.5):
        turn = uniform(generator, 0, 2 * math.pi)
    start = torch.rand(2, generator=generator).tolist()
    points, zoom = points.rotated(turn, (0.0, 0.0)), uniform(generator, *ZOOM)
    grid = torch.stack([points.columns * zoom + start[0], points.rows * zoom + start[1]], dim=-1)
    grid = grid.remainder_(1).mul_(2).sub_(1)[None]
    padded = F.pad(texture[None], (0, 1, 0, 1), mode="circular")
    return F.grid_sample(padded, grid, align_corners=True)[0]


def _join_materials(
    one: Tensor, other: Tensor, points: SurfacePoints, generator: Generator
) -> Tensor:
    """Combine two materials along a line, with a kerb or a gap, or along a ragged curve."""
    angle = uniform(generator, 0, 2 * math.pi)
    if bernoulli(generator, 0.4):
        angle = math.pi / 2 * randint(generator, 0, 3) + uniform(generator, -0.1, 0.1)
    distance = points.rotated(angle, (uniform(generator, -0.25, 0.25), 0.0)).rows
    size = (one.shape[1], one.shape[2])
    if bernoulli(generator, 0.5):
        bend = smooth_field(size, generator, modes=5) * uniform(generator, 0.0, 0.08)
        ragged = smooth_field(size, generator, modes=60, decay=0.7)
        relief = one[3] - one[3].mean()
        distance = distance + bend + ragged * log_uniform(generator, 0.001, 0.02)
        distance = distance + relief * (points.pixel * uniform(generator, 0, 6))
        return torch.lerp(one, other, points.coverage(distance, uniform(generator, 1, 4)))
    joined = torch.lerp(one, other, points.coverage(distance))
    width = log_uniform(generator, 0.002, 0.06)
    if bernoulli(generator, 0.6):
        dark = uniform(generator, 0.15, 0.6) if width < 0.01 else 1.0
        grain = 1 + 0.5 * (one[:1] / one[:1].mean().clamp_min(1e-3) - 1)
        kerb = torch.cat([draw_colour(generator, STONE)[:, None, None] * (dark * grain), one[3:]])
        joined = torch.lerp(joined, kerb, points.coverage(distance.abs() - width))
    return joined


def _illuminate(image: Tensor, generator: Generator) -> Tensor:
    """Apply slowly varying light and vignetting; neither counts as shadow."""
    size = (image.shape[1], image.shape[2])
    uneven = smooth_field(size, generator, modes=2, decay=1.0) * uniform(generator, 0.0, 0.1)
    rows = torch.linspace(-1, 1, size[0])[:, None]
    columns = torch.linspace(-1, 1, size[1])[None]
    corner = (rows**2 + columns**2) * (uniform(generator, 0.0, 0.12) * bernoulli(generator, 0.6))
    return image * (1 + uneven - corner)


def _photograph(image: Tensor, generator: Generator) -> Tensor:
    """Apply exposure, white balance, contrast, slight lens blur and noise."""
    gain = (GREY / float(image.mean().clamp_min(0.02))) ** uniform(generator, 0.1, 0.7)
    gain *= math.exp(0.12 * float(torch.randn((), generator=generator)))
    bright = image.mean(0)[::4, ::4].flatten().sort().values
    gain = min(gain, WHITE / float(bright[int(0.9 * len(bright))].clamp_min(0.02)))
    warm = WARM * (0.07 * float(torch.randn((), generator=generator)))
    image = image * (gain * torch.exp(warm))[:, None, None]
    grey = image.mean(0, keepdim=True)
    image = torch.lerp(grey, image, uniform(generator, 0.65, 1.3))
    image = torch.lerp(grey.mean(), image, uniform(generator, 0.9, 1.5))
    image = _soften(image, uniform(generator, 0.02, 0.2))
    noise = torch.randn(image.shape, generator=generator)
    return image.add_(noise, alpha=log_uniform(generator, *NOISE)).clamp_(0, 1)


def _soften(image: Tensor, part: float) -> Tensor:
    """Blur with the kernel (part, 1 - 2 part, part) along rows and along columns."""
    for dim in (-1, -2):
        ends = image.narrow(dim, 0, 1), image.narrow(dim, image.shape[dim] - 1, 1)
        wide = torch.cat([ends[0], image, ends[1]], dim)
        sides = wide.narrow(dim, 0, image.shape[dim]) + wide.narrow(dim, 2, image.shape[dim])
        image = image * (1 - 2 * part) + part * sides
    return image
