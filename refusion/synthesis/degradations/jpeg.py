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
    """JPEG compression with 4:2:0 chroma subsampling.

    Attributes:
        quality: (low, high), range of the libjpeg quality, 1..100, both included.

    Raises:
        ConfigError: the range is out of its domain or not ascending.
    """

    quality: tuple[int, int] = (10, 90)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"quality": (1, 100)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: the compressed and decoded crop, 8-bit levels."""
        return {"lq": quantise(clean, randint(generator, *self.quality))}
