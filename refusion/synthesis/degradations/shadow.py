"""Cast shadows over clean photos: where direct light is taken away, ambient light is left.

In linear light I = J (1 - m (1 - a)), with m in [0, 1] how much of the light source is hidden and
a the share of ambient light per channel (Barrow and Tenenbaum 1978; Finlayson et al. 2006). The
half shadow widens with the distance from what casts it. Nothing here depends on the photo's own
dark places, so that its shading and texture stay in the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.camera import add_noise, expose, file_round_trip, quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.shadow_shapes import SHAPES, Outline, Points, Stage, draw_waves
from refusion.synthesis.scenes.depth import layered_depth
from refusion.synthesis.scenes.frame import PhotoFrame

GAMMA = 2.2
TRIES = 24  # scenes drawn until one covers as much of the photo as asked
SAMPLES = 64  # long side of the grid on which coverage is measured
BLOCK = 1 << 16  # pixels evaluated at a time: their distances stay in the processor's cache
LARGEST = {"casters": (1, 16), "growth": (0.0, 2.0), "jpeg_quality": (1, 100)}


@dataclass(frozen=True)
class ShadowFields:
    """Shadow over one crop.

    Attributes:
        occlusion: m, (1, H, W) in [0, 1], 1 where all direct light is hidden.
        ambient: a, (3, H, W) in [0, 1], what light is left there, linear.
    """

    occlusion: Tensor
    ambient: Tensor

    def cast(self, clean: Tensor) -> Tensor:
        """The photo (3, H, W) in [0, 1], display values, under this shadow."""
        light = torch.addcmul(torch.ones(()), self.occlusion, self.ambient - 1)
        return clean * light.pow(1 / GAMMA)  # equals ((clean^2.2) light)^(1/2.2)


@dataclass(frozen=True)
class Caster:
    """What casts one shadow.

    Attributes:
        outline: of the shadow (`SHAPES`).
        penumbra: width of the half shadow at the caster, in long sides.
        growth: of that width per distance fallen.
        strength: part of the direct light that it hides.
    """

    outline: Outline
    penumbra: float
    growth: float
    strength: float

    def occlusion(self, points: Points, pixel: float) -> Tensor:
        """Part of the light hidden, (H, W): a smooth ramp across the half shadow.

        Args:
            points: where.
            pixel: their distance; no half shadow is narrower than one and a half.
        """
        distance, reach = self.outline(points)
        width = reach.mul(self.growth).add_(self.penumbra).clamp_min_(1.5 * pixel)
        return _ramp(distance.div_(width)).mul_(self.strength)


@dataclass(frozen=True)
class _Ground:
    """What shadows fall on.

    Attributes:
        points: of the photo, displaced by relief.
        catches: (H, W) in [0, 1], 0 where no shadow falls.
    """

    points: Points
    catches: Tensor


@dataclass(frozen=True)
class Shadow:
    """Photos under synthetic shadows; lengths are in parts of the photo's long side.

    Pairs are (low, high) of a uniform draw, shares are probabilities.

    Attributes:
        shape_weights: relative frequency of wall, polygon, window, branches, figure, blob and
            foliage (`SHAPES`).
        clean_share: part of the samples without any shadow, so that such photos stay as they are.
        casters: fewest and most outlines in one photo.
        coverage: how much of the photo lies in shadow, its half shadow counted in part.
        lights_share: part of the photos with several lamps: each outline hides but one of them.
        lamp: how much of the direct light one of several lamps gives.
        ambient: light left in full shadow, linear, mean of the channels.
        sky_share: part of the photos in which that light is the blue sky's.
        sky_tint: how much bluer it is there: excess of blue and lack of red.
        tint: largest deviation of a channel from grey anywhere.
        ambient_spread: how much the ambient light varies over the photo, relative deviation.
        penumbra: width of the half shadow at the caster; drawn with equal chance per octave.
        growth: growth of that width per distance the shadow fell, squared draw: leans to the low.
        bend: how far uneven ground displaces the outline, standard deviation.
        roughness: the same for grass, gravel and cloth.
        relief_share: part of the photos whose outlines break where objects stand.
        relief: how far they are displaced there.
        spare_share: part of the photos whose farthest layer, often the sky, catches no shadow.
        spare: depth beyond which that is so, 0 the nearest layer and 1 the farthest.
        exposure: camera gain and gamma of the shadowed photo, relative change.
        colour: white balance of the shadowed photo, relative change.
        noise_share: part of the samples with sensor noise, which is strongest in the dark.
        noise: standard deviation of the noise at full light, linear.
        jpeg_share: part of the samples that went through a JPEG.
        jpeg_quality: its quality.

    Raises:
        ConfigError: a setting is out of its domain or a range is reversed.
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
        check_settings(self, LARGEST)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the clean crop (3, H, W) under its part of the photo's shadow, 8-bit levels."""
        fields = self.draw(generator, frame, (clean.shape[-2], clean.shape[-1]))
        if fields is None:
            return {"lq": quantise(clean)}
        return {"lq": self._photograph(fields.cast(clean), generator)}

    def draw(
        self, generator: Generator, frame: PhotoFrame, size: tuple[int, int]
    ) -> ShadowFields | None:
        """The shadow of a crop.

        Args:
            generator: source of randomness; same state, same shadow over the whole photo.
            frame: the crop's place in its photo.
            size: (H, W) of the crop in pixels.

        Returns:
            The crop's part of the shadow, or None where the photo is to stay without one.
        """
        if bernoulli(generator, self.clean_share):
            return None
        height, width = frame.thumbnail.shape[-2:]
        sides = (height / max(height, width), width / max(height, width))
        stage = Stage(*sides, uniform(generator, 0, 2 * math.pi))
        ambient = self._draw_ambient(generator, stage)
        ground = self._draw_ground(generator, stage, frame)
        whole = ground(stage.grid(SAMPLES), PhotoFrame(frame.thumbnail))
        casters = self._draw_casters(generator, stage, whole)
        points = Points(*frame.coordinates(size))
        occlusion = _occlusion(casters, ground(points, frame))
        return ShadowFields(occlusion[None], ambient(points))

    def _draw_ambient(self, generator: Generator, stage: Stage) -> Callable[[Points], Tensor]:
        level, spread = uniform(generator, *self.ambient), uniform(generator, *self.ambient_spread)
        tint = self.tint * (2 * torch.rand(3, generator=generator) - 1)
        sky, is_outdoors = uniform(generator, *self.sky_tint), bernoulli(generator, self.sky_share)
        if is_outdoors:
            tint = tint + sky * torch.tensor([-1.0, 0.0, 1.0])
        uneven = draw_waves(generator, stage, 3, 1.0)
        colour = level * (1 + tint)[:, None, None]
        return lambda points: (colour * (1 + spread * uneven(points))).clamp(0.02, 1)

    def _draw_ground(
        self, generator: Generator, stage: Stage, frame: PhotoFrame
    ) -> Callable[[Points, PhotoFrame], _Ground]:
        """What lies under the shadow and displaces it, as a function of place.

        Whatever stands higher meets the light earlier: all displacements are along one direction.
        """
        hills, bend = draw_waves(generator, stage, 6, 1.0), uniform(generator, *self.bend)
        grain, rough = draw_waves(generator, stage, 70, 0.5), uniform(generator, *self.roughness)
        angle = stage.azimuth + uniform(generator, -0.8, 0.8)
        direction = torch.tensor([math.sin(angle), math.cos(angle)])[:, None, None]
        relief, is_rough = uniform(generator, *self.relief), bernoulli(generator, self.relief_share)
        spare, is_spared = uniform(generator, *self.spare), bernoulli(generator, self.spare_share)
        layers = _unit_range(layered_depth(frame.thumbnail, generator))[None]
        is_spared = is_spared and bool(layers.median() < spare)  # else little would be left

        def ground(points: Points, frame: PhotoFrame) -> _Ground:
            depth = frame.crop(layers, (points.rows.shape[0], points.rows.shape[1]))[0]
            height = bend * hills(points) + rough * grain(points) + relief * is_rough * depth
            catches = _ramp((spare - depth) / 0.15) if is_spared else torch.ones_like(depth)
            return _Ground(replace(points, shift=height * direction), catches)

        return ground

    def _draw_casters(self, generator: Generator, stage: Stage, whole: _Ground) -> list[Caster]:
        """Outlines that together cover as much as asked, or as nearly as `TRIES` draws come."""
        low, high = self.coverage
        best, best_miss = [], math.inf
        for _ in range(TRIES):
            casters = self._draw_group(generator, stage)
            hidden = _occlusion(casters, whole)
            # Relative to the darkest place: one lamp's shadow everywhere would be no shadow at all.
            covered = float(hidden.mean() / hidden.amax().clamp_min(1e-6))
            miss = max(low - covered, covered - high, 0.0)
            if miss < best_miss:
                best, best_miss = casters, miss
            if miss == 0:
                break
        return best

    def _draw_group(self, generator: Generator, stage: Stage) -> list[Caster]:
        weights = torch.tensor(self.shape_weights, dtype=torch.float32)
        has_lamps = bernoulli(generator, self.lights_share)
        casters = []
        for _ in range(randint(generator, *self.casters)):
            kind = list(SHAPES)[int(torch.multinomial(weights, 1, generator=generator))]
            penumbra = log_uniform(generator, *self.penumbra)
            part = uniform(generator, 0, 1) ** 2
            growth = self.growth[0] + (self.growth[1] - self.growth[0]) * part
            strength = uniform(generator, *self.lamp) if has_lamps else 1.0
            casters.append(Caster(SHAPES[kind](generator, stage), penumbra, growth, strength))
        return casters

    def _photograph(self, dark: Tensor, generator: Generator) -> Tensor:
        """What a camera makes of it: the sensor counts linear light, the file is for displays."""
        dark = expose(dark, generator, exposure=self.exposure, colour=self.colour)
        if bernoulli(generator, self.noise_share):
            noise = uniform(generator, *self.noise)
            noisy = add_noise(dark.pow(GAMMA), generator, read=noise / 8, shot=noise)
            dark = noisy.pow(1 / GAMMA)
        return file_round_trip(dark, generator, self.jpeg_share, self.jpeg_quality)


def _occlusion(casters: list[Caster], ground: _Ground) -> Tensor:
    """All outlines together, (H, W): where two overlap, light has to pass both."""
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
    """From 0 at -1/2 to 1 at 1/2, flat at both ends."""
    part = position.add(0.5).clamp_(0, 1)
    return (3 - 2 * part).mul_(part).mul_(part)


def _unit_range(field: Tensor) -> Tensor:
    return (field - field.amin()) / (field.amax() - field.amin()).clamp_min(1e-6)
