"""Crops of degraded photos: the blocks of a JPEG then begin anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.config.parser import Component, FromTable
from refusion.errors import ConfigError
from refusion.randomness import randint
from refusion.synthesis.degradations.base import degrade, draw_scene
from refusion.synthesis.scenes.frame import PhotoFrame

_BLOCK = 16  # pixels; a multiple of the sides of the blocks of brightness and of colour


@dataclass(frozen=True)
class Cropped:
    """A degradation of a larger picture, of which a part is kept.

    The picture is the crop with reflected borders, 16 pixels larger along both sides; of a crop of
    up to 16 pixels the border is repeated. Only "lq" and "gt" are cropped, so the degradation must
    keep the size and must not need the frame.

    Attributes:
        degradation: degrades the larger picture.

    Raises:
        ConfigError: `degradation` is none.
    """

    # In YAML a section; `build_degradation` replaces it by a degradation.
    degradation: Annotated[Component, FromTable("degradations")]

    def __post_init__(self) -> None:
        """Check the settings."""
        if not callable(self.degradation):
            raise ConfigError(f"degradation: expected a degradation, got {self.degradation!r}")

    @property
    def multiple(self) -> int:
        """Number that divides the sides of valid images."""
        return getattr(self.degradation, "multiple", 1)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """What the degradation returns for the larger picture, cropped (see `Degradation`)."""
        return self.apply(clean, None, generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> tuple[Any] | None:
        """Draw the scene of the degradation, if it has one."""
        return draw_scene(self.degradation, thumbnail, generator)

    def apply(
        self, clean: Tensor, scene: tuple[Any] | None, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """As for calling it, with a scene of `draw_scene`.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            scene: a result of `draw_scene`.
            generator: source of randomness.
            frame: position of the crop in the photo.
        """
        top, left = randint(generator, 0, _BLOCK), randint(generator, 0, _BLOCK)
        padding = (left, _BLOCK - left, top, _BLOCK - top)
        mode = "reflect" if min(clean.shape[-2:]) > _BLOCK else "replicate"
        larger = F.pad(clean[None], padding, mode=mode)[0]
        item = degrade(self.degradation, larger, scene, generator, frame)
        (height, width), larger_size = clean.shape[-2:], larger.shape[-2:]
        for name in item.keys() & {"lq", "gt"}:
            if item[name].shape[-2:] != larger_size:
                raise ConfigError("Cropped: expected a degradation that keeps the size of a photo")
            item[name] = item[name][..., top : top + height, left : left + width].contiguous()
        return item
