"""Haze over clean photos by the scattering model, with random depth, density and airlight.

I = J t + A (1 - t) with transmission t = exp(-beta * density * depth) (Koschmieder 1924; Narasimhan
and Nayar 2002). The fields are defined over the whole photo; a crop gets its part of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.hints import Share
from refusion.images.resize import antialiased
from refusion.randomness import bernoulli, uniform
from refusion.synthesis.camera import GAMMA, add_noise, expose, file_round_trip, power, quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.scenes.aerial import aerial_depth
from refusion.synthesis.scenes.depth import DEPTHS
from refusion.synthesis.scenes.fields import photo_coordinates, quantile, smooth_field
from refusion.synthesis.scenes.frame import PhotoFrame

Range = tuple[float, float]
_DOMAINS = {
    "mean_transmission": (1e-3, 1.0),
    "airlight": (0.0, 1.5),
    "depth_power": (0.1, 10.0),
    "density_spread": (0.0, math.inf),
    "density_modes": (1, 64),
    "jpeg_quality": (1, 100),
    "smoke_transmission": (1e-3, 1.0),
    "smoke_airlight": (0.0, 1.5),
    "smoke_light": (0.0, 4.0),
    "smoke_uneven": (0.0, 4.0),
    "blur": (1.0, 16.0),
}


@dataclass(frozen=True)
class Haze:
    """Haze, with the exposure, noise and compression of a camera.

    A pair (low, high) is the range of a uniform draw; a share is a probability.

    Attributes:
        depth_weights: relative frequency of veil, ground, room, layers, smooth (`DEPTHS`).
        aerial_share: share of the samples with the depth that the photo's own dark channel shows,
            if it is a landscape (`aerial_depth`); the others follow depth_weights.
        depth_power: exponent of the depth; above 1 the haze is far away.
        clean_share: share of the samples with almost no haze, so that a model keeps clean photos
            unchanged.
        mean_transmission: mean of t over the photo; beta is chosen accordingly.
        min_transmission: lower limit of t; with less transmission nothing could be restored.
        uneven_share: share of the samples, except veils, whose density varies over the photo.
        density_spread: standard deviation of the log density if it varies; small values are more
            frequent.
        density_modes: density structures span at least 1/density_modes of the long side.
        airlight: brightness of A; values above 1 are clipped to white.
        airlight_tint: largest relative deviation of a channel of A from grey.
        scene_light_share: share of the samples whose airlight has the colour temperature of the
            scene.
        scene_colour_share: share of the samples whose airlight has the full colour of the light of
            the scene, as smoke in a room or dust in a low sun has.
        airlight_spread: relative standard deviation of A over the photo.
        glow: share of A that is a blurred copy of the photo.
        soften_share: share of the samples whose haze also blurs (multiple scattering).
        soften: share of the light that is blurred where t is 0.
        linear_share: share of the samples mixed in linear light instead of display values.
        exposure: largest relative change of gain and of gamma of the hazy photo.
        colour: largest relative change of a channel of the hazy photo.
        noise_share: share of the samples with sensor noise.
        noise: standard deviation of the noise at value 1.
        jpeg_share: share of the samples with JPEG compression.
        jpeg_quality: JPEG quality, 1..100.
        smoke_share: share of the samples in which the haze is smoke or mist near the camera, with
            ranges of its own and lit unevenly by the lamps and windows of the scene.
        smoke_transmission: mean of t over the photo in smoke.
        smoke_airlight: brightness of A in smoke.
        smoke_light: exponent of the scene's blurred light, which is a factor of A in smoke.
        smoke_uneven: standard deviation of a further smooth change of the logarithm of A in smoke.
        blur_share: share of the samples whose scene is blurred, in the ground truth, too, because
            blur is not haze.
        blur: the scene is reduced by this factor and enlarged again.
        maps: whether the samples contain transmission and airlight, for `prediction: scattering`.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    depth_weights: tuple[float, float, float, float, float] = (0.35, 0.2, 0.2, 0.15, 0.1)
    aerial_share: Share = 0.0
    depth_power: Range = (1.0, 1.0)
    clean_share: float = 0.04
    mean_transmission: Range = (0.15, 0.95)
    min_transmission: float = 0.05
    uneven_share: float = 0.6
    density_spread: Range = (0.1, 0.9)
    density_modes: int = 6
    airlight: Range = (0.6, 1.0)
    airlight_tint: float = 0.06
    scene_light_share: float = 0.35
    scene_colour_share: Share = 0.0
    airlight_spread: Range = (0.0, 0.12)
    glow: Range = (0.0, 0.4)
    soften_share: float = 0.25
    soften: Range = (0.1, 0.5)
    linear_share: float = 0.3
    exposure: float = 0.05
    colour: float = 0.02
    noise_share: float = 0.6
    noise: Range = (0.002, 0.02)
    jpeg_share: float = 0.5
    jpeg_quality: tuple[int, int] = (50, 98)
    smoke_share: Share = 0.0
    smoke_transmission: Range = (0.3, 0.75)
    smoke_airlight: Range = (0.5, 0.9)
    smoke_light: Range = (0.0, 0.6)
    smoke_uneven: Range = (0.0, 0.4)
    blur_share: Share = 0.0
    blur: Range = (1.0, 3.0)
    maps: bool = False

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, _DOMAINS)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """The crop with its part of the haze over the photo, in 8-bit levels; see `apply`."""
        return self.apply(clean, self.draw_scene(frame.thumbnail, generator), generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> HazeFields:
        """Draw the haze over a photo; arguments as for `SceneDegradation`."""
        return sample_haze(thumbnail, generator, self)

    def apply(
        self, clean: Tensor, scene: HazeFields, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """A crop with its part of the haze, and a camera's own effects.

        Returns:
            "lq" (3, H, W); with `blur_share` also "gt", the blurred or unchanged crop; with `maps`
            also "transmission" (1, H, W) and "airlight" (3, H, W).
        """
        made = {}
        if self.blur_share:
            is_blurred = bernoulli(generator, self.blur_share)
            clean = _blurred(clean, uniform(generator, *self.blur)) if is_blurred else clean
            made["gt"] = clean
        size = (clean.shape[-2], clean.shape[-1])
        seen = frame.crop(torch.cat([scene.transmission, scene.airlight]), size)
        hazy = scatter(_soften(clean, seen[:1], scene.soften), seen[:1], seen[1:], scene.linear)
        made["lq"] = quantise(hazy) if scene.is_clean else _photograph(hazy, generator, self)
        return made | {"transmission": seen[:1], "airlight": seen[1:]} if self.maps else made


@dataclass(frozen=True)
class HazeFields:
    """Haze fields over a whole photo.

    Attributes:
        transmission: (1, h, w) in (0, 1].
        airlight: (3, h, w) in [0, 1], in display values.
        depth: (1, h, w) in (0, 1], 1 at the farthest point.
        soften: share of the light that is blurred where t is 0, in [0, 1].
        linear: whether haze is mixed in linear light.
        is_clean: whether the sample has almost no haze and no camera effects.
    """

    transmission: Tensor
    airlight: Tensor
    depth: Tensor
    soften: float
    linear: bool
    is_clean: bool


def scatter(clean: Tensor, transmission: Tensor, airlight: Tensor, linear: bool = False) -> Tensor:
    """Scattering model I = J t + A (1 - t).

    Args:
        clean: J, (3, H, W) in [0, 1].
        transmission: t, (1, H, W) in [0, 1].
        airlight: A, (3, H, W) or (3, 1, 1) in [0, 1].
        linear: mix in linear light (power 2.2) instead of display values.

    Returns:
        (3, H, W) in [0, 1].
    """
    if not linear:
        return torch.lerp(airlight.expand_as(clean), clean, transmission)
    light, haze = power(clean, GAMMA), power(airlight, GAMMA)
    return power(torch.lerp(haze.expand_as(light), light, transmission).clamp_min_(0), 1 / GAMMA)


def sample_haze(thumbnail: Tensor, generator: Generator, settings: Haze) -> HazeFields:
    """Draw depth, density, transmission and airlight for a photo.

    Args:
        thumbnail: (3, h, w) in [0, 1], a small copy of the whole photo; fields get this size.
        generator: source of randomness.
        settings: ranges of the random parameters.
    """
    size = (thumbnail.shape[-2], thumbnail.shape[-1])
    is_smoke = bool(settings.smoke_share) and bernoulli(generator, settings.smoke_share)
    settings = _of_smoke(settings) if is_smoke else settings
    kind, depth = _depth(thumbnail, generator, settings)
    if settings.depth_power != (1.0, 1.0):
        depth = depth ** uniform(generator, *settings.depth_power)
    density = torch.ones(size)
    if kind != "veil" and bernoulli(generator, settings.uneven_share):
        density = _uneven_density(size, generator, settings)
    is_clean = bernoulli(generator, settings.clean_share)
    mean = uniform(generator, *((0.97, 1.0) if is_clean else settings.mean_transmission))
    transmission = _transmission(depth * density, mean).clamp_min(settings.min_transmission)
    airlight = _airlight(thumbnail, generator, settings)
    airlight = _lit(airlight, thumbnail, generator, settings) if is_smoke else airlight
    soften = uniform(generator, *settings.soften)
    soften = soften if bernoulli(generator, settings.soften_share) else 0.0
    linear = bernoulli(generator, settings.linear_share)
    return HazeFields(transmission[None], airlight, depth[None], soften, linear, is_clean)


def _depth(thumbnail: Tensor, generator: Generator, settings: Haze) -> tuple[str, Tensor]:
    """Kind of a random depth, and the depth (h, w)."""
    if settings.aerial_share and bernoulli(generator, settings.aerial_share):
        return "aerial", aerial_depth(thumbnail, generator)
    weights = torch.tensor(settings.depth_weights, dtype=torch.float32)
    kind = list(DEPTHS)[int(torch.multinomial(weights, 1, generator=generator))]
    return kind, DEPTHS[kind](thumbnail, generator)


def _of_smoke(settings: Haze) -> Haze:
    """The settings with the ranges of smoke in place of those of haze."""
    return replace(
        settings,
        mean_transmission=settings.smoke_transmission,
        airlight=settings.smoke_airlight,
        soften_share=min(1.0, 2 * settings.soften_share),  # smoke scatters more at small angles
    )


def _lit(airlight: Tensor, thumbnail: Tensor, generator: Generator, settings: Haze) -> Tensor:
    """Airlight (3, h, w) lit by the lamps and windows of the scene; its corners stay dark."""
    size = thumbnail.shape[-2:]
    cells = int(torch.randint(3, 7, (), generator=generator))
    light = F.adaptive_avg_pool2d(power(thumbnail, GAMMA).mean(dim=0)[None, None], cells)
    light = F.interpolate(light, size, mode="bicubic", align_corners=False)[0].clamp_min(0.01)
    change = uniform(generator, *settings.smoke_light) * light.log()
    spread = uniform(generator, *settings.smoke_uneven)
    change = change + spread * smooth_field(tuple(size), generator, modes=2).clamp(-2, 2)
    change = (change - change.mean()).clamp(-1.0, 0.6)
    return (airlight.mean(dim=(1, 2), keepdim=True) * torch.exp(change)).clamp(0, 1)


def _uneven_density(size: tuple[int, int], generator: Generator, settings: Haze) -> Tensor:
    """Log-normal density, sometimes increasing downwards (mist) or upwards (smoke)."""
    decay = uniform(generator, 1.0, 2.2)
    field = smooth_field(size, generator, modes=settings.density_modes, decay=decay)
    low, high = settings.density_spread
    spread = low + (high - low) * uniform(generator, 0.0, 1.0) ** 2
    density = spread * field.clamp(-2, 2)
    if bernoulli(generator, 0.4):
        rows, _ = photo_coordinates(*size)
        density = density + uniform(generator, -1.5, 1.5) * (rows - 0.5)
    return torch.exp(density)


def _transmission(optical_depth: Tensor, mean: float) -> Tensor:
    """exp(-beta * optical depth), where bisection finds the beta that gives the requested mean."""
    sample = optical_depth[::4, ::4]
    low, high = math.log(1e-3), math.log(1e3)
    for _ in range(24):
        middle = (low + high) / 2
        if torch.exp(-math.exp(middle) * sample).mean().item() > mean:
            low = middle
        else:
            high = middle
    return torch.exp(-math.exp(low) * optical_depth)


def _airlight(thumbnail: Tensor, generator: Generator, settings: Haze) -> Tensor:
    """Airlight (3, h, w): nearly grey, or tinted like the scene; uneven, with glow around lamps."""
    size = (thumbnail.shape[-2], thumbnail.shape[-1])
    tint = settings.airlight_tint
    warm = uniform(generator, -tint, tint)
    green = uniform(generator, -tint / 4, tint / 4)
    blurred = _blur(thumbnail)
    if bernoulli(generator, settings.scene_light_share):
        # Only the blue-orange axis is used: light sources vary along it, and fog is never green.
        light = quantile(blurred.flatten(1), 0.8)
        lean = float((light[0] - light[2]) / (light[0] + light[2]).clamp_min(0.05))
        warm += max(-0.25, min(0.35, lean)) * uniform(generator, 0.2, 1.0)
    colour = uniform(generator, *settings.airlight) * torch.tensor([1 + warm, 1 + green, 1 - warm])
    if settings.scene_colour_share and bernoulli(generator, settings.scene_colour_share):
        light = quantile(blurred.flatten(1), 0.8).clamp_min(0.02)
        colour = colour.mean() * (light / light.mean()) ** uniform(generator, 0.4, 1.1)
    spread = uniform(generator, *settings.airlight_spread)
    uneven = 1 + spread * smooth_field(size, generator, modes=2).clamp(-2, 2)
    glow = uniform(generator, *settings.glow)
    return torch.lerp(colour[:, None, None] * uneven, blurred, glow).clamp(0, 1)


def _blur(thumbnail: Tensor) -> Tensor:
    """Photo blurred over about a tenth of its side, (3, h, w)."""
    size = thumbnail.shape[-2:]
    coarse = F.adaptive_avg_pool2d(thumbnail[None], (max(2, size[0] // 16), max(2, size[1] // 16)))
    coarse = F.avg_pool2d(coarse, 3, 1, 1, count_include_pad=False)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def _blurred(clean: Tensor, factor: float) -> Tensor:
    """The image reduced by a factor and enlarged again, (3, H, W) in [0, 1]."""
    size = (clean.shape[-2], clean.shape[-1])
    small = [max(1, round(side / factor)) for side in size]
    reduced = antialiased(clean[None], small)
    return F.interpolate(reduced, size, mode="bicubic")[0].clamp(0, 1)


def _soften(clean: Tensor, transmission: Tensor, strength: float) -> Tensor:
    """Mix with a copy blurred over 1/64 of the image, with more weight in dense haze."""
    if strength == 0:
        return clean
    size = (clean.shape[-2], clean.shape[-1])
    coarse = F.adaptive_avg_pool2d(clean[None], [max(1, min(side, 64)) for side in size])
    blurred = F.interpolate(coarse, size, mode="bilinear", align_corners=False)[0]
    return torch.lerp(clean, blurred, strength * (1 - transmission))


def _photograph(hazy: Tensor, generator: Generator, settings: Haze) -> Tensor:
    hazy = expose(hazy, generator, exposure=settings.exposure, colour=settings.colour)
    if bernoulli(generator, settings.noise_share):
        noise = uniform(generator, *settings.noise)
        hazy = add_noise(hazy, generator, read=noise / 3, shot=noise)
    return file_round_trip(hazy, generator, settings.jpeg_share, settings.jpeg_quality)
