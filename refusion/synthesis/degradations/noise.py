"""Noise of a sensor: thermal (Gaussian) and of the light itself (Poisson)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.randomness import bernoulli, log_uniform, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_range
from refusion.synthesis.scenes.frame import PhotoFrame

LEVELS = 255.0


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise of known strength.

    Attributes:
        sigma: (low, high) of its standard deviation in 8-bit levels, one uniform draw per sample.
        clip: cut and round to 8-bit levels as a file would. Off, values leave [0, 1] and are not
            rounded: `DenoisingSDE` starts at the step whose noise is the input's, and takes it to
            be Gaussian, which clipped noise is not.
        gray_share: part of the samples whose three channels get the same noise.

    Raises:
        ConfigError: a setting is out of its domain or the range is reversed.
    """

    sigma: tuple[float, float] = (5.0, 50.0)
    clip: bool = False
    gray_share: float = 0.0

    def __post_init__(self) -> None:
        """Check every setting."""
        check_range("GaussianNoise.sigma", self.sigma, 0.0, LEVELS)
        check_range("GaussianNoise.gray_share", (self.gray_share, self.gray_share), 0.0, 1.0)
        if not isinstance(self.clip, bool):
            raise ConfigError(f"GaussianNoise.clip: expected true or false, got {self.clip!r}")

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W), "noise_std" ()}: the noisy crop, and sigma / 255 before any clipping."""
        deviation = uniform(generator, *self.sigma) / LEVELS
        is_gray = self.gray_share > 0 and bernoulli(generator, self.gray_share)
        shape = (1 if is_gray else len(clean), *clean.shape[1:])
        noisy = clean + deviation * torch.randn(shape, generator=generator)
        lq = quantise(noisy) if self.clip else noisy
        return {"lq": lq, "noise_std": torch.tensor(deviation, dtype=torch.float32)}


@dataclass(frozen=True)
class PoissonNoise:
    """Shot noise: every pixel counts photons, so its variance is its light over the peak.

    Attributes:
        peak: (low, high) of the photons that a white pixel catches; few are noisy. Drawn with equal
            chance per octave.

    Raises:
        ConfigError: the range is out of its domain or reversed.
    """

    peak: tuple[float, float] = (30.0, 1000.0)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_range("PoissonNoise.peak", self.peak, 1.0, 1e6)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: Poisson(clean * peak) / peak in display values, 8-bit levels."""
        peak = log_uniform(generator, *self.peak)
        return {"lq": quantise(torch.poisson(clean.clamp_min(0) * peak, generator) / peak)}
