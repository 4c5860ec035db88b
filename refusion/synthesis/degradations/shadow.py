"""Cast shadows over clean photos: direct light is blocked, ambient light remains.

In linear light I = J (1 - m (1 - a)), where m in [0, 1] is the occluded part of the light source
and a the share of ambient light per channel (Barrow and Tenenbaum 1978; Finlayson et al. 2006). The
penumbra widens with the distance from the caster. The shadow does not depend on the brightness of
the photo, so shading and texture of the photo remain in the ground truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.camera import GAMMA, add_noise, expose, file_round_trip, power_, quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.shadow_shapes import (
    SHAPES,
    Outline,
    Points,
    ShadowScene,
    draw_waves,
)
from refusion.synthesis.scenes.depth import layered_depth
from refusion.synthesis.scenes.frame import PhotoFrame

MAX_TRIES = 24  # scenes that are drawn until one has the requested coverage
SAMPLES = 64  # long side of the grid on which coverage is measured
BLOCK = 1 << 16  # pixels per block, small enough for the processor cache
_DOMAINS = {"casters": (1, 16), "growth": (0.0, 2.0), "jpeg_quality": (1, 100)}


@dataclass(frozen=True)
class ShadowFields:
    """Shadow over one crop.

    Attributes:
        occlusion: m, (1, H, W) in [0, 1], 1 where all direct light is blocked.
        ambient: a, (3, H, W) in [0, 1], linear light that remains in full shadow.
    """

    occlusion: Tensor
    ambient: Tensor

    def cast(self, clean: Tensor) -> Tensor:
        """Apply the shadow to a photo (3, H, W) in [0, 1], display values."""
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
        return _ramp(distance.div_(width)).mul_(self.strength)


@dataclass(frozen=True)
class _Ground:
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
    """

    casters: list[Caster]
    ground: Callable[[Points, PhotoFrame], _Ground]
    ambient: Callable[[Points], Tensor]

    def on(self, frame: PhotoFrame, size: tuple[int, int]) -> ShadowFields:
        """Evaluate the shadow on the crop `frame` of (H, W) pixels."""
        points = Points(*frame.coordinates(size))
        occlusion = _occlusion(self.casters, self.ground(points, frame))
        return ShadowFields(occlusion[None], self.ambient(points))


@dataclass(frozen=True)
class Shadow:
    """Synthetic shadows; lengths are relative to the long side of the photo.

    A pair (low, high) is the range of a uniform draw; a share is a probability.

    Attributes:
        shape_weights: relative frequencies of wall, polygon, window, branches, figure, blob and
            foliage, see `SHAPES`.
        clean_share: share of the samples without shadow, so that a model keeps such photos
            unchanged.
        casters: smallest and largest number of shadow outlines in a photo.
        coverage: share of the photo in shadow; penumbra pixels count in part.
        lights_share: share of the photos with several lamps; each object blocks one lamp.
        lamp: share of the direct light that one of several lamps gives.
        ambient: linear light that remains in full shadow, mean of the channels.
        sky_share: share of the photos whose ambient light comes from a blue sky.
        sky_tint: relative increase of blue and decrease of red for a blue sky.
        tint: largest relative deviation of a channel of the ambient light from grey.
        ambient_spread: relative standard deviation of the ambient light over the photo.
        penumbra: width of the penumbra at the object, log-uniform.
        growth: increase of that width per distance from the object; small values are more
            frequent.
        bend: standard deviation of the displacement of the outline by uneven ground.
        roughness: standard deviation of the displacement by fine relief (grass, gravel, cloth).
        relief_share: share of the photos whose outlines are displaced at objects.
        relief: displacement of the outline at objects.
        spare_share: share of the photos whose farthest layer, often the sky, has no shadow.
        spare: depth from which there is no shadow; 0 is the nearest layer, 1 the farthest.
        exposure: largest relative change of gain and of gamma of the photo with shadow.
        colour: largest relative change of a channel of the photo with shadow.
        noise_share: share of the samples with sensor noise, which is strongest in dark regions.
        noise: standard deviation of the noise at value 1, in linear light.
        jpeg_share: share of the samples with JPEG compression.
        jpeg_quality: JPEG quality, 1..100.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    shape_weights: tuple[float, float, float, float, float, float, float] = (
        0.22,
        0.16,
        0.08,
        0.14,
        0.18,
        0.1,
        0.12,
    )
    clean_share: float = 0.06
    casters: tuple[int, int] = (1, 3)
    coverage: tuple[float, float] = (0.05, 0.7)
    lights_share: float = 0.2
    lamp: tuple[float, float] = (0.4, 0.8)
    ambient: tuple[float, float] = (0.1, 0.6)
    sky_share: float = 0.55
    sky_tint: tuple[float, float] = (0.05, 0.35)
    tint: float = 0.05
    ambient_spread: tuple[float, float] = (0.0, 0.15)
    penumbra: tuple[float, float] = (0.002, 0.04)
    growth: tuple[float, float] = (0.005, 0.15)
    bend: tuple[float, float] = (0.0, 0.025)
    roughness: tuple[float, float] = (0.0, 0.003)
    relief_share: float = 0.4
    relief: tuple[float, float] = (0.02, 0.2)
    spare_share: float = 0.4
    spare: tuple[float, float] = (0.5, 0.95)
    exposure: float = 0.03
    colour: float = 0.01
    noise_share: float = 0.5
    noise: tuple[float, float] = (0.002, 0.015)
    jpeg_share: float = 0.4
    jpeg_quality: tuple[int, int] = (60, 98)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, _DOMAINS)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the crop (3, H, W) with its part of the shadow over the photo, 8-bit levels."""
        return self.apply(clean, self.draw_scene(frame.thumbnail, generator), generator, frame)

    def apply(
        self, clean: Tensor, scene: CastShadow | None, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """{"lq"}: a crop (3, H, W) with its part of the shadow, and a camera's own effects."""
        if scene is None:
            return {"lq": quantise(clean)}
        fields = scene.on(frame, (clean.shape[-2], clean.shape[-1]))
        return {"lq": self._photograph(fields.cast(clean), generator)}

    def draw(
        self, generator: Generator, frame: PhotoFrame, size: tuple[int, int]
    ) -> ShadowFields | None:
        """Draw the shadow of a photo and evaluate it on a crop.

        Args:
            generator: source of randomness; the same state gives the same shadow over the photo.
            frame: position of the crop in its photo.
            size: (H, W) of the crop in pixels.

        Returns:
            The shadow on the crop, or None if the photo gets no shadow.
        """
        scene = self.draw_scene(frame.thumbnail, generator)
        return None if scene is None else scene.on(frame, size)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> CastShadow | None:
        """Draw the shadow over a photo; None if the photo gets none. See `SceneDegradation`."""
        if bernoulli(generator, self.clean_share):
            return None
        height, width = thumbnail.shape[-2:]
        sides = (height / max(height, width), width / max(height, width))
        scene = ShadowScene(*sides, uniform(generator, 0, 2 * math.pi))
        ambient = self._draw_ambient(generator, scene)
        ground = self._draw_ground(generator, scene, thumbnail)
        whole = ground(scene.grid(SAMPLES), PhotoFrame(thumbnail))
        return CastShadow(self._draw_casters(generator, scene, whole), ground, ambient)

    def _draw_ambient(self, generator: Generator, scene: ShadowScene) -> Callable[[Points], Tensor]:
        level, spread = uniform(generator, *self.ambient), uniform(generator, *self.ambient_spread)
        tint = self.tint * (2 * torch.rand(3, generator=generator) - 1)
        sky, is_outdoors = uniform(generator, *self.sky_tint), bernoulli(generator, self.sky_share)
        if is_outdoors:
            tint = tint + sky * torch.tensor([-1.0, 0.0, 1.0])
        uneven = draw_waves(generator, scene, 3, 1.0)
        colour = level * (1 + tint)[:, None, None]
        return lambda points: (colour * uneven(points).mul_(spread).add_(1)).clamp_(0.02, 1)

    def _draw_ground(
        self, generator: Generator, scene: ShadowScene, thumbnail: Tensor
    ) -> Callable[[Points, PhotoFrame], _Ground]:
        """The relief of the ground under the shadow, as a function of position.

        Height displaces the outline towards the light, so all displacements have one direction.
        """
        hills, bend = draw_waves(generator, scene, 6, 1.0), uniform(generator, *self.bend)
        grain, rough = draw_waves(generator, scene, 70, 0.5), uniform(generator, *self.roughness)
        angle = scene.azimuth + uniform(generator, -0.8, 0.8)
        relief, is_rough = uniform(generator, *self.relief), bernoulli(generator, self.relief_share)
        spare, is_spared = uniform(generator, *self.spare), bernoulli(generator, self.spare_share)
        layers = _unit_range(layered_depth(thumbnail, generator))[None]
        # If most of the photo is beyond the limit, little shadow would remain.
        is_spared = is_spared and bool(layers.median() < spare)

        def ground(points: Points, frame: PhotoFrame) -> _Ground:
            depth = frame.crop(layers, (points.rows.shape[0], points.rows.shape[1]))[0]
            height = hills(points).mul_(bend).add_(grain(points), alpha=rough)
            height.add_(depth, alpha=relief * is_rough)
            catches = _ramp((spare - depth) / 0.15) if is_spared else torch.ones(())
            return _Ground(replace(points, relief=height, azimuth=angle), catches)

        return ground

    def _draw_casters(
        self, generator: Generator, scene: ShadowScene, whole: _Ground
    ) -> list[Caster]:
        """Draw casters with the requested coverage, or the closest of `MAX_TRIES` draws."""
        low, high = self.coverage
        best, best_miss = [], math.inf
        for _ in range(MAX_TRIES):
            casters = self._draw_group(generator, scene)
            hidden = _occlusion(casters, whole)
            # Relative to the darkest point: a uniform shadow of one lamp is not visible as one.
            covered = float(hidden.mean() / hidden.amax().clamp_min(1e-6))
            miss = max(low - covered, covered - high, 0.0)
            if miss < best_miss:
                best, best_miss = casters, miss
            if miss == 0:
                break
        return best

    def _draw_group(self, generator: Generator, scene: ShadowScene) -> list[Caster]:
        weights = torch.tensor(self.shape_weights, dtype=torch.float32)
        has_lamps = bernoulli(generator, self.lights_share)
        casters = []
        for _ in range(randint(generator, *self.casters)):
            kind = list(SHAPES)[int(torch.multinomial(weights, 1, generator=generator))]
            penumbra = log_uniform(generator, *self.penumbra)
            part = uniform(generator, 0, 1) ** 2
            growth = self.growth[0] + (self.growth[1] - self.growth[0]) * part
            strength = uniform(generator, *self.lamp) if has_lamps else 1.0
            casters.append(Caster(SHAPES[kind](generator, scene), penumbra, growth, strength))
        return casters

    def _photograph(self, dark: Tensor, generator: Generator) -> Tensor:
        """Apply camera effects; noise is added in linear light, the result is in display values."""
        dark = expose(dark, generator, exposure=self.exposure, colour=self.colour)
        if bernoulli(generator, self.noise_share):
            noise = uniform(generator, *self.noise)
            noisy = add_noise(power_(dark, GAMMA), generator, read=noise / 8, shot=noise)
            dark = power_(noisy, 1 / GAMMA)
        return file_round_trip(dark, generator, self.jpeg_share, self.jpeg_quality)


def _occlusion(casters: list[Caster], ground: _Ground) -> Tensor:
    """Occlusion (H, W) by all casters; overlapping casters multiply the transmitted light."""
    points = ground.points
    height, width = points.rows.shape
    spans = (points.rows, points.columns)
    span = sum(float((axis[-1, -1] - axis[0, 0]).abs()) for axis in spans)
    pixel = span / max(height + width - 2, 1)
    step, blocks = max(1, BLOCK // width), []
    for top in range(0, height, step):
        block = points.block(top, top + step)
        passed = torch.ones_like(block.rows)
        for caster in casters:
            passed.mul_(1 - caster.occlusion(block, pixel))
        blocks.append(1 - passed)
    return torch.cat(blocks).mul_(ground.catches)


def _ramp(position: Tensor) -> Tensor:
    """Smoothstep from 0 at -1/2 to 1 at 1/2."""
    part = position.add(0.5).clamp_(0, 1)
    return (3 - 2 * part).mul_(part).mul_(part)


def _unit_range(field: Tensor) -> Tensor:
    return (field - field.amin()) / (field.amax() - field.amin()).clamp_min(1e-6)
