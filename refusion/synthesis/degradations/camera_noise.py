"""Noise of a camera at high ISO: shot and read noise, in the light of the sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.camera import GAMMA, file_round_trip, power, power_
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.kernels import Ellipse, gaussian
from refusion.synthesis.degradations.noise import LEVELS
from refusion.synthesis.draws import normal
from refusion.synthesis.fourier import convolve
from refusion.synthesis.mosaic import demosaiced
from refusion.synthesis.scenes.frame import PhotoFrame

_DARKEST = 0.002  # light; below it the tone curve of cameras is a line, so its slope is limited


@dataclass(frozen=True)
class CameraNoise:
    """Noise of a sensor, as it looks in the file that the camera writes.

    The photo is converted to light, and the white balance is undone. The sensor adds noise of
    variance shot^2 * light + read^2 (Foi et al., 2008). Then come white balance, demosaicing, which
    spreads the noise over neighbouring pixels, the tone curve, 8-bit rounding and, for a share of
    the samples, JPEG compression (Brooks et al., 2019, Unprocessing Images). A pair (low, high) is
    the range of a uniform draw; a share is a probability.

    Attributes:
        sigma: root mean square of the noise over the crop in 8-bit levels, before clipping;
            log-uniform.
        white_share: share of the samples with white Gaussian noise of equal strength everywhere
            in place of the noise of a sensor, as `GaussianNoise` with `clip`.
        read: share of the read noise in the variance at medium grey.
        gain: factors of red and blue in the white balance; green has 1.
        mosaic_share: share of the samples with the noise of a sensor whose noise is interpolated
            from the pixels of a Bayer filter, as cameras do it, half of them with sharp filters.
        film_share: share of the others with grain of a film, the same in all channels, blurred by a
            Gaussian.
        film_grain: standard deviation of this Gaussian in pixels.
        correlated_share: share of the rest with spatially correlated noise.
        colour_grain: size in pixels of the grain of the colour noise, if it is correlated.
        jpeg_share: share of the samples with JPEG compression.
        quality: libjpeg quality, whole numbers.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    sigma: tuple[float, float] = (2.0, 60.0)
    white_share: float = 0.25
    read: tuple[float, float] = (0.05, 0.5)
    gain: tuple[float, float] = (1.0, 2.4)
    mosaic_share: float = 0.0
    film_share: float = 0.0
    film_grain: tuple[float, float] = (0.4, 1.6)
    correlated_share: float = 0.6
    colour_grain: tuple[float, float] = (1.0, 3.0)
    jpeg_share: float = 0.5
    quality: tuple[int, int] = (70, 98)

    def __post_init__(self) -> None:
        """Check every setting."""
        domains = {"sigma": (0.0, LEVELS), "gain": (0.1, 10.0), "colour_grain": (1.0, 8.0)}
        domains |= {"film_grain": (0.1, 8.0)}
        check_settings(self, domains | {"quality": (1, 100)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: the noisy crop in 8-bit levels."""
        strength = log_uniform(generator, *self.sigma) / LEVELS
        if bernoulli(generator, self.white_share):
            noisy = normal(clean.shape, generator).mul_(strength).add_(clean)
        else:
            noisy = self._sensor(clean, strength, generator)
        return {"lq": file_round_trip(noisy, generator, self.jpeg_share, self.quality)}

    def _sensor(self, clean: Tensor, strength: float, generator: Generator) -> Tensor:
        """The crop with noise of the sensor; `strength` in [0, 1] units."""
        gains = [uniform(generator, *self.gain), 1.0, uniform(generator, *self.gain)]
        gain = torch.tensor(gains)[:, None, None]
        read = uniform(generator, *self.read)
        grey = 0.5**GAMMA
        light = power(clean.clamp_min(1e-6), GAMMA)
        # Variance of the light after white balance, 1 at medium grey and gain 1.
        variance = light * ((1 - read) / grey * gain) + read * gain**2
        slope = power_(light.clamp_min(_DARKEST), 1 / GAMMA - 1).div_(GAMMA)
        if self.mosaic_share > 0 and bernoulli(generator, self.mosaic_share):
            noise = _mosaic_noise(variance.sqrt_(), generator)
            scale = strength / math.sqrt(float(noise.mul(slope).square_().mean()))
        else:
            scale = strength / math.sqrt(float((variance * slope.square_()).mean()))
            noise = self._unit_noise(clean.shape, generator).mul_(variance.sqrt_())
        light.add_(noise, alpha=scale)
        return power_(light.clamp_min_(1e-6), 1 / GAMMA)

    def _unit_noise(self, shape: torch.Size, generator: Generator) -> Tensor:
        """Normal noise of variance 1: of a film, white, or as demosaicing leaves it."""
        if self.film_share > 0 and bernoulli(generator, self.film_share):
            return _grain(shape, uniform(generator, *self.film_grain), generator)
        noise = normal(shape, generator)
        if not bernoulli(generator, self.correlated_share):
            return noise
        grey, spread = uniform(generator, 0.0, 1.0), uniform(generator, 0.0, 0.25)
        grain, colour = uniform(generator, *self.colour_grain), uniform(generator, 0.3, 1.0)
        fine = _smoothed(torch.lerp(noise, noise[:1], grey), spread)
        sides = [math.ceil(side / grain) for side in shape[1:]]
        coarse = normal((1, shape[0], *sides), generator)
        coarse = F.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)[0]
        mixed = fine.add_(coarse, alpha=colour)
        return mixed.div_(mixed.square().mean().sqrt())


def _mosaic_noise(deviation: Tensor, generator: Generator) -> Tensor:
    """Normal noise of a Bayer sensor with these deviations (3, H, W), after demosaicing."""
    noise = normal(deviation.shape, generator).mul_(deviation)
    red = randint(generator, 0, 1), randint(generator, 0, 1)
    return demosaiced(noise, red, sharp=bernoulli(generator, 0.5))


def _grain(shape: torch.Size, sigma: float, generator: Generator) -> Tensor:
    """Normal noise of variance 1, the same in all channels, blurred by a Gaussian."""
    side = 2 * math.ceil(3 * sigma) + 1
    noise = normal((1, *shape[1:]), generator)
    grain = convolve(noise, gaussian(Ellipse(side, (sigma, sigma))))
    return grain.div_(grain.square().mean().sqrt()).expand(shape).contiguous()


def _smoothed(noise: Tensor, spread: float) -> Tensor:
    """Noise (C, H, W), filtered by (spread, 1 - 2 spread, spread) along both axes."""
    padded = F.pad(noise[None], (1, 1, 1, 1), mode="replicate")[0]
    rows = torch.lerp(padded[:, 1:-1], padded[:, :-2].add(padded[:, 2:]).div_(2), 2 * spread)
    middle, sides = rows[..., 1:-1], rows[..., :-2].add(rows[..., 2:]).div_(2)
    return torch.lerp(middle, sides, 2 * spread)
