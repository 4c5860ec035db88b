"""JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from refusion.randomness import randint
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.scenes.frame import PhotoFrame


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file of the crop, written and read again; 4:2:0 chroma.

    Attributes:
        quality: (low, high) of the quality as libjpeg counts it, 1 to 100, both may come.

    Raises:
        ConfigError: the range is out of its domain or reversed.
    """

    quality: tuple[int, int] = (10, 90)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"quality": (1, 100)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: the crop as the file holds it, 8-bit levels."""
        return {"lq": quantise(clean, randint(generator, *self.quality))}
