"""Gaussian noise, and Poisson noise (shot noise)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.randomness import bernoulli, log_uniform, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_range
from refusion.synthesis.draws import normal, poisson
from refusion.synthesis.scenes.frame import PhotoFrame

LEVELS = 255.0


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise.

    Attributes:
        sigma: (low, high), standard deviation in 8-bit levels, one uniform draw per sample.
        clip: clip and round to 8-bit levels, as in a file. If false, values may leave [0, 1] and
            are not rounded. `DenoisingSDE` needs this: it starts at the time with the noise level
            of the input and assumes Gaussian noise, and clipped noise is not Gaussian.
        gray_share: share of the samples with the same noise in all three channels.

    Raises:
        ConfigError: a setting is out of its domain, or the range is not ascending.
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
        """{"lq" (3, H, W), "noise_std" ()}: the noisy crop, and sigma / 255 before clipping."""
        deviation = uniform(generator, *self.sigma) / LEVELS
        is_gray = self.gray_share > 0 and bernoulli(generator, self.gray_share)
        shape = (1 if is_gray else len(clean), *clean.shape[1:])
        noisy = normal(shape, generator).mul_(deviation) + clean
        lq = quantise(noisy) if self.clip else noisy
        return {"lq": lq, "noise_std": torch.tensor(deviation, dtype=torch.float32)}


@dataclass(frozen=True)
class PoissonNoise:
    """Poisson noise: photon counts of each pixel; the variance is value / peak.

    Attributes:
        peak: (low, high), mean number of photons in a white pixel, log-uniform; a smaller number
            gives more noise.

    Raises:
        ConfigError: the range is out of its domain or not ascending.
    """

    peak: tuple[float, float] = (30.0, 1000.0)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_range("PoissonNoise.peak", self.peak, 1.0, 1e6)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: Poisson(clean * peak) / peak in display values, 8-bit levels."""
        peak = log_uniform(generator, *self.peak)
        counts = poisson(clean.clamp_min(0).mul_(peak), generator)
        return {"lq": quantise(counts.div_(peak))}
