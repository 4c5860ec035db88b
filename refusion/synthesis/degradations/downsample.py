"""Downsampling by a whole factor, for super-resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.errors import ConfigError, ImageError, suggest
from refusion.images.resize import antialiased
from refusion.randomness import uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_range
from refusion.synthesis.draws import normal
from refusion.synthesis.scenes.frame import PhotoFrame

MODES = ("bicubic", "area", "nearest")
MAX_FACTOR = 16
LEVELS = 255.0


@dataclass(frozen=True)
class Downsample:
    """Reduce the number of rows and columns by a whole factor.

    Attributes:
        factor: 2 to 16; the sides of the image must be multiples of it.
        mode: "bicubic" (anti-aliased with a = -0.5, as in Pillow, MATLAB's imresize and the
            super-resolution benchmarks), "area" (mean of the pixels) or "nearest" (one pixel of
            each block, aliased).
        noise: (low, high), standard deviation in 8-bit levels of Gaussian noise that is added to
            the small image; one uniform draw per sample.

    Raises:
        ConfigError: a setting is out of its domain.
    """

    factor: int = 4
    mode: str = "bicubic"
    noise: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Check every setting."""
        is_whole = isinstance(self.factor, int) and not isinstance(self.factor, bool)
        if not is_whole or not 2 <= self.factor <= MAX_FACTOR:
            raise ConfigError(
                f"Downsample.factor: expected a whole number in [2, {MAX_FACTOR}], "
                f"got {self.factor!r}"
            )
        if self.mode not in MODES:
            raise ConfigError(
                f"Downsample.mode: unknown mode '{self.mode}'{suggest(self.mode, MODES)}"
            )
        check_range("Downsample.noise", self.noise, 0.0, LEVELS)

    @property
    def multiple(self) -> int:
        """Number that divides the sides of valid images: the factor."""
        return self.factor

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Downsample the crop.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            generator: source of randomness.
            frame: not used.

        Returns:
            "lq" (3, H / factor, W / factor), 8-bit levels.

        Raises:
            ImageError: a side is not a multiple of the factor.
        """
        height, width = clean.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ImageError(
                f"Downsample: expected sides that are multiples of {self.factor}, got {height} x "
                f"{width}; crop the photo first"
            )
        small = self._shrink(clean, (height // self.factor, width // self.factor))
        deviation = uniform(generator, *self.noise) / LEVELS
        if deviation > 0:
            small = normal(small.shape, generator).mul_(deviation).add_(small)
        return {"lq": quantise(small)}

    def _shrink(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        if self.mode == "bicubic":
            return antialiased(image[None], size)[0]
        return F.interpolate(
            image[None], size, mode={"area": "area", "nearest": "nearest-exact"}[self.mode]
        )[0]
