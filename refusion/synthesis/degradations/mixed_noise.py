"""Random choice of Gaussian or Poisson noise, in colour or gray."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Generator, Tensor

from refusion.randomness import bernoulli, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.noise import LEVELS, GaussianNoise
from refusion.synthesis.draws import poisson
from refusion.synthesis.scenes.frame import PhotoFrame

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601


@dataclass(frozen=True)
class MixedNoise:
    """Gaussian or Poisson noise, as in the first pass of Real-ESRGAN.

    A pair (low, high) is the range of a uniform draw; a share is a probability.

    Attributes:
        gaussian_share: share of the samples with Gaussian noise; the others have Poisson noise.
        sigma: standard deviation of Gaussian noise in 8-bit levels.
        poisson: factor of Poisson noise; see `poisson_noise` for the noise at factor 1.
        gray_share: share of the samples with the same noise in all three channels.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    gaussian_share: float = 0.5
    sigma: tuple[float, float] = (1.0, 30.0)
    poisson: tuple[float, float] = (0.05, 3.0)
    gray_share: float = 0.4

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"sigma": (0.0, LEVELS), "poisson": (0.0, 100.0)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the noisy image (3, H, W) in [0, 1], not rounded."""
        if bernoulli(generator, self.gaussian_share):
            gaussian = GaussianNoise(self.sigma, gray_share=self.gray_share)
            noisy = gaussian(clean, generator, frame)["lq"]
        else:
            strength = uniform(generator, *self.poisson)
            is_gray = bernoulli(generator, self.gray_share)
            noise = poisson_noise(clean, generator, is_gray=is_gray).mul_(strength)
            noisy = noise + clean
        return {"lq": noisy.clamp_(0, 1)}


def poisson_noise(image: Tensor, generator: Generator, *, is_gray: bool) -> Tensor:
    """Draw Poisson noise for an image.

    A white pixel has as many photons as the image has different 8-bit levels, rounded up to a power
    of two, at most 256.

    Args:
        image: (3, H, W) in [0, 1].
        generator: source of randomness.
        is_gray: compute the noise from the luma, the same for all channels.

    Returns:
        Noise (3, H, W), or (1, H, W) if gray, with mean 0 and variance value / photons.
    """
    if is_gray:
        image = (image * image.new_tensor(LUMA)[:, None, None]).sum(dim=0, keepdim=True)
    light = quantise(image)
    photons = 2 ** math.ceil(math.log2(_level_count(light)))
    return poisson(light * photons, generator).div_(photons).sub_(light)


def _level_count(light: Tensor) -> int:
    """Number of different values of an image of multiples of 1/255."""
    levels = (light * 255).round_().numpy().astype(np.uint8)
    return int(np.count_nonzero(np.bincount(levels.reshape(-1), minlength=256)))
