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
from refusion.synthesis.degradations.cast_shadow import (
    Caster,
    CastShadow,
    DeepShadow,
    Ground,
    ShadowFields,
    occlusion_of,
    ramp,
)
from refusion.synthesis.degradations.dark_objects import DarkObject, draw_objects
from refusion.synthesis.degradations.shadow_shapes import (
    SHAPES,
    Points,
    ShadowScene,
    draw_waves,
)
from refusion.synthesis.scenes.depth import layered_depth
from refusion.synthesis.scenes.frame import PhotoFrame

MAX_TRIES = 24  # scenes that are drawn until one has the requested coverage
SAMPLES = 64  # long side of the grid on which coverage is measured
_DOMAINS = {
    "casters": (1, 16),
    "objects": (1, 16),
    "growth": (0.0, 2.0),
    "deep_black": (0.0, 0.9),
    "jpeg_quality": (1, 100),
}


@dataclass(frozen=True)
class ShadowedPhoto:
    """What is drawn for a whole photo.

    Attributes:
        objects: dark objects, which the ground truth has, too.
        shadow: the shadow, or None.
    """

    objects: list[DarkObject]
    shadow: CastShadow | None

    def truth(self, clean: Tensor, frame: PhotoFrame) -> Tensor:
        """The crop (3, H, W) with its part of the dark objects."""
        truth, points = clean, Points(*frame.coordinates((clean.shape[-2], clean.shape[-1])))
        for item in self.objects:
            truth = item.over(truth, clean, points)
        return truth


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
        deep_share: share of the photos with a deep shadow: gain J + offset in display values, as in
            SynShadow, instead of ambient light.
        deep_black: display value that becomes black in a deep shadow.
        deep_white: display value of white in a deep shadow.
        deep_tint: decrease of red, and increase of blue, relative to the gain of a deep shadow.
        objects_share: share of the photos with dark objects, which also the ground truth has.
        objects: smallest and largest number of dark objects in a photo.
        object_brightness: factor of the display values of a dark object, log-uniform.
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
    deep_share: float = 0.0
    deep_black: tuple[float, float] = (0.0, 0.25)
    deep_white: tuple[float, float] = (0.1, 0.9)
    deep_tint: tuple[float, float] = (0.0, 0.1)
    objects_share: float = 0.0
    objects: tuple[int, int] = (1, 3)
    object_brightness: tuple[float, float] = (0.03, 0.5)
    noise_share: float = 0.5
    noise: tuple[float, float] = (0.002, 0.015)
    jpeg_share: float = 0.4
    jpeg_quality: tuple[int, int] = (60, 98)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, _DOMAINS)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the crop (3, H, W) with its part of the shadow over the photo, 8-bit levels.

        With dark objects also {"gt"}: the crop with its part of the objects.
        """
        return self.apply(clean, self.draw_scene(frame.thumbnail, generator), generator, frame)

    def apply(
        self, clean: Tensor, scene: ShadowedPhoto, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """As for calling it; noise, JPEG and exposure of the crop are drawn here."""
        truth = scene.truth(clean, frame)
        made = {"gt": truth} if scene.objects else {}
        if scene.shadow is None:
            return {"lq": quantise(truth), **made}
        fields = scene.shadow.on(frame, (truth.shape[-2], truth.shape[-1]))
        return {"lq": self._photograph(fields.cast(truth), generator), **made}

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
        shadow = self.draw_scene(frame.thumbnail, generator).shadow
        return None if shadow is None else shadow.on(frame, size)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> ShadowedPhoto:
        """Draw the dark objects of a photo and its shadow, if any. See `SceneDegradation`."""
        objects = []
        if self.objects_share and bernoulli(generator, self.objects_share):
            brightness = self.object_brightness
            objects = draw_objects(generator, thumbnail, self.objects, brightness)
        is_clean = bernoulli(generator, self.clean_share)
        return ShadowedPhoto(objects, None if is_clean else self._draw_shadow(thumbnail, generator))

    def _draw_shadow(self, thumbnail: Tensor, generator: Generator) -> CastShadow:
        height, width = thumbnail.shape[-2:]
        sides = (height / max(height, width), width / max(height, width))
        scene = ShadowScene(*sides, uniform(generator, 0, 2 * math.pi))
        ambient = self._draw_ambient(generator, scene)
        ground = self._draw_ground(generator, scene, thumbnail)
        whole = ground(scene.grid(SAMPLES), PhotoFrame(thumbnail))
        casters = self._draw_casters(generator, scene, whole)
        is_deep = self.deep_share and bernoulli(generator, self.deep_share)
        return CastShadow(casters, ground, ambient, self._draw_deep(generator) if is_deep else None)

    def _draw_deep(self, generator: Generator) -> DeepShadow:
        """SynShadow's darkening: `black` becomes 0 and white `white`; red darkens first."""
        black, white = uniform(generator, *self.deep_black), uniform(generator, *self.deep_white)
        gain = min(white / (1 - black), 1.0)
        red, blue = (uniform(generator, *self.deep_tint) for _ in range(2))
        offset = torch.tensor([black + red, black, black - blue])[:, None, None].mul_(-gain)
        return DeepShadow(gain, offset)

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
    ) -> Callable[[Points, PhotoFrame], Ground]:
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

        def ground(points: Points, frame: PhotoFrame) -> Ground:
            depth = frame.crop(layers, (points.rows.shape[0], points.rows.shape[1]))[0]
            height = hills(points).mul_(bend).add_(grain(points), alpha=rough)
            height.add_(depth, alpha=relief * is_rough)
            catches = ramp((spare - depth) / 0.15) if is_spared else torch.ones(())
            return Ground(replace(points, relief=height, azimuth=angle), catches)

        return ground

    def _draw_casters(
        self, generator: Generator, scene: ShadowScene, whole: Ground
    ) -> list[Caster]:
        """Draw casters with the requested coverage, or the closest of `MAX_TRIES` draws."""
        low, high = self.coverage
        best, best_miss = [], math.inf
        for _ in range(MAX_TRIES):
            casters = self._draw_group(generator, scene)
            hidden = occlusion_of(casters, whole)
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


def _unit_range(field: Tensor) -> Tensor:
    return (field - field.amin()) / (field.amax() - field.amin()).clamp_min(1e-6)
