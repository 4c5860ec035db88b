"""Cast shadows as functions of the position in a photo: casters, ground, and the darkening.

Two models of the darkening: ambient light that remains in linear light (Barrow and Tenenbaum 1978),
and an affine map of the display values whose offset is negative, so that deep shadows reach black
(Inoue and Yamasaki, "Learning from Synthetic Shadows for Shadow Detection and Removal", 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.synthesis.camera import GAMMA, power_
from refusion.synthesis.degradations.shadow_shapes import Outline, Points
from refusion.synthesis.scenes.frame import PhotoFrame

BLOCK = 1 << 16  # pixels per block, small enough for the processor cache


@dataclass(frozen=True)
class DeepShadow:
    """Full shadow as an affine map of display values: gain J + offset, cut off at 0 and 1.

    Attributes:
        gain: a, in (0, 1].
        offset: b, (3, 1, 1); negative values make the dark parts of the photo black.
    """

    gain: float
    offset: Tensor

    def __call__(self, clean: Tensor) -> Tensor:
        """The photo (3, H, W) in [0, 1] in full shadow; the same shape and range."""
        return clean.mul(self.gain).add_(self.offset).clamp_(0, 1)


@dataclass(frozen=True)
class ShadowFields:
    """Shadow over one crop.

    Attributes:
        occlusion: m, (1, H, W) in [0, 1], 1 where all direct light is blocked.
        ambient: a, (3, H, W) in [0, 1], linear light that remains in full shadow.
        deep: the darkening that is used instead of the ambient light, or None.
    """

    occlusion: Tensor
    ambient: Tensor
    deep: DeepShadow | None = None

    def cast(self, clean: Tensor) -> Tensor:
        """Apply the shadow to a photo (3, H, W) in [0, 1], display values."""
        if self.deep is not None:
            return torch.lerp(clean, self.deep(clean), self.occlusion)
        light = (self.ambient - 1).mul_(self.occlusion).add_(1)
        return power_(light, 1 / GAMMA).mul_(clean)  # equals ((clean^2.2) light)^(1/2.2)


@dataclass(frozen=True)
class Caster:
    """An object that casts a shadow.

    Attributes:
        outline: outline of the shadow, see `SHAPES`.
        penumbra: width of the penumbra at the object, in long sides.
        growth: increase of that width per distance from the object.
        strength: share of the direct light that the object blocks, 0..1.
    """

    outline: Outline
    penumbra: float
    growth: float
    strength: float

    def occlusion(self, points: Points, pixel: float) -> Tensor:
        """Blocked share of the direct light, (H, W): a smooth ramp across the penumbra.

        Args:
            points: points of the photo.
            pixel: distance of neighbouring points; the penumbra is at least 1.5 times as wide.
        """
        distance, reach = self.outline(points)
        width = reach.mul(self.growth).add_(self.penumbra).clamp_min_(1.5 * pixel)
        return ramp(distance.div_(width)).mul_(self.strength)


@dataclass(frozen=True)
class Ground:
    """The surface that shadows fall on.

    Attributes:
        points: points of the photo, displaced by the relief.
        catches: (H, W) or () in [0, 1], factor of the shadow, 0 where no shadow falls.
    """

    points: Points
    catches: Tensor


@dataclass(frozen=True)
class CastShadow:
    """The shadow over a whole photo, as a function of position.

    Attributes:
        casters: the objects that cast it.
        ground: points and frame of a crop -> the surface that it falls on.
        ambient: points -> light that remains in full shadow, (3, H, W), see `ShadowFields`.
        deep: the darkening that is used instead of the ambient light, or None.
    """

    casters: list[Caster]
    ground: Callable[[Points, PhotoFrame], Ground]
    ambient: Callable[[Points], Tensor]
    deep: DeepShadow | None = None

    def on(self, frame: PhotoFrame, size: tuple[int, int]) -> ShadowFields:
        """Evaluate the shadow on the crop `frame` of (H, W) pixels."""
        points = Points(*frame.coordinates(size))
        occlusion = occlusion_of(self.casters, self.ground(points, frame))
        return ShadowFields(occlusion[None], self.ambient(points), self.deep)


def pixel_of(points: Points) -> float:
    """Distance of neighbouring points of a grid, in long sides."""
    height, width = points.rows.shape
    spans = (points.rows, points.columns)
    span = sum(float((axis[-1, -1] - axis[0, 0]).abs()) for axis in spans)
    return span / max(height + width - 2, 1)


def occlusion_of(casters: list[Caster], ground: Ground) -> Tensor:
    """Occlusion (H, W) by all casters; overlapping casters multiply the transmitted light."""
    points = ground.points
    height, width = points.rows.shape
    pixel = pixel_of(points)
    step, blocks = max(1, BLOCK // width), []
    for top in range(0, height, step):
        block = points.block(top, top + step)
        passed = torch.ones_like(block.rows)
        for caster in casters:
            passed.mul_(1 - caster.occlusion(block, pixel))
        blocks.append(1 - passed)
    return torch.cat(blocks).mul_(ground.catches)


def ramp(position: Tensor) -> Tensor:
    """Smoothstep from 0 at -1/2 to 1 at 1/2."""
    part = position.add(0.5).clamp_(0, 1)
    return (3 - 2 * part).mul_(part).mul_(part)
