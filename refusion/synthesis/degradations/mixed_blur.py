"""Blur with a random kernel, and sinc filtering, as in Real-ESRGAN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.randomness import bernoulli, categorical, randint, uniform
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.kernels import Ellipse, gaussian, plateau, sinc
from refusion.synthesis.fourier import convolve
from refusion.synthesis.scenes.frame import PhotoFrame

FORMS = ("iso", "aniso", "generalised_iso", "generalised_aniso", "plateau_iso", "plateau_aniso")
WIDE = 13  # side in pixels from which a sinc kernel may have the lower cutoff
LOW_WIDE, LOW = 1 / 5, 1 / 3  # smallest cutoff of wide and of other kernels, relative to Nyquist


@dataclass(frozen=True)
class MixedBlur:
    """Blur with one of six types of kernel or a sinc, as in the first pass of Real-ESRGAN.

    A pair (low, high) is the range of a uniform draw; a share is a probability.

    Attributes:
        side: range of the side of the kernel in pixels; both numbers and the draw are odd.
        form_weights: relative frequencies of the kernel types in `FORMS`.
        sinc_share: share of the samples that are filtered by a sinc instead.
        sigma: standard deviation of the kernel in pixels; drawn per axis for "aniso" kernels.
        generalised: exponent of generalised Gaussians; half of the draws are below 1.
        plateau: exponent of plateaus; half of the draws are below 1 if the range permits it.
        share: share of the samples that are blurred.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    side: tuple[int, int] = (7, 21)
    form_weights: tuple[float, float, float, float, float, float] = (
        *(0.45, 0.25, 0.12),
        *(0.03, 0.12, 0.03),
    )
    sinc_share: float = 0.1
    sigma: tuple[float, float] = (0.2, 3.0)
    generalised: tuple[float, float] = (0.5, 4.0)
    plateau: tuple[float, float] = (1.0, 2.0)
    share: float = 1.0

    def __post_init__(self) -> None:
        """Check every setting."""
        exponents = (0.05, 20.0)
        domains = {"side": (1, 201), "sigma": (0.01, 100.0)}
        check_settings(self, {**domains, "generalised": exponents, "plateau": exponents})
        check_odd("MixedBlur.side", self.side)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the blurred image (3, H, W) in [0, 1], not rounded."""
        if not bernoulli(generator, self.share):
            return {"lq": clean}
        return {"lq": convolve(clean, self.draw_kernel(generator)).clamp_(0, 1)}

    def draw_kernel(self, generator: Generator) -> Tensor:
        """Random kernel (k, k), k odd, that sums to 1."""
        side = draw_odd(generator, *self.side)
        if bernoulli(generator, self.sinc_share):
            low = LOW_WIDE if side >= WIDE else LOW
            return sinc(side, math.pi * uniform(generator, low, 1.0))
        form = FORMS[categorical(generator, self.form_weights)]
        sigma = uniform(generator, *self.sigma)
        ellipse = Ellipse(side, (sigma, sigma))
        if form.endswith("aniso"):
            other = uniform(generator, *self.sigma)
            ellipse = Ellipse(side, (sigma, other), uniform(generator, -math.pi, math.pi))
        if form.startswith("generalised"):
            return gaussian(ellipse, draw_exponent(generator, *self.generalised))
        if form.startswith("plateau"):
            return plateau(ellipse, draw_exponent(generator, *self.plateau))
        return gaussian(ellipse)


@dataclass(frozen=True)
class SincFilter:
    """Sinc filter that imitates the ringing of sharpening and compression: Real-ESRGAN's last step.

    Attributes:
        side: (low, high), range of the side of the kernel in pixels; odd numbers.
        cutoff: (low, high), range of the cutoff frequency relative to the Nyquist frequency.
        share: share of the samples that are filtered.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    side: tuple[int, int] = (7, 21)
    cutoff: tuple[float, float] = (LOW, 1.0)
    share: float = 0.8

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"side": (1, 201), "cutoff": (0.01, 1.0)})
        check_odd("SincFilter.side", self.side)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the filtered image (3, H, W) in [0, 1], not rounded."""
        if not bernoulli(generator, self.share):
            return {"lq": clean}
        side = draw_odd(generator, *self.side)
        kernel = sinc(side, math.pi * uniform(generator, *self.cutoff))
        return {"lq": convolve(clean, kernel).clamp_(0, 1)}


def check_odd(name: str, sides: tuple[int, int]) -> None:
    """Raise `ConfigError` unless the sides of a kernel are odd.

    Args:
        name: name of the setting, for the message.
        sides: smallest and largest side in pixels.
    """
    if not all(side % 2 for side in sides):
        raise ConfigError(f"{name}: expected odd sides, got {sides}")


def draw_odd(generator: Generator, low: int, high: int) -> int:
    """Random odd number in [low, high]; both limits are odd."""
    return 2 * randint(generator, low // 2, high // 2) + 1


def draw_exponent(generator: Generator, low: float, high: float) -> float:
    """Random exponent in [low, high], below 1 and above 1 with equal probability.

    If [low, high] is entirely above or below 1, the other half of the draws is the nearer limit.
    """
    below = torch.rand((), generator=generator).item() < 0.5
    ends = (low, max(low, min(1.0, high))) if below else (min(high, max(1.0, low)), high)
    return uniform(generator, *ends)
