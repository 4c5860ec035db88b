"""Black-and-white photos: a degradation in grey, and the photo in grey as its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Generator, Tensor

from refusion.config.parser import Component, FromTable
from refusion.errors import ConfigError
from refusion.randomness import bernoulli
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_range
from refusion.synthesis.degradations.base import degrade, draw_scene
from refusion.synthesis.scenes.frame import PhotoFrame
from refusion.synthesis.tone import LUMA


@dataclass(frozen=True)
class Greyscale:
    """A share of the samples in grey: their noise is the same in all channels.

    Attributes:
        degradation: degrades every sample, in colour.
        share: probability that the degraded photo and the ground truth become grey.

    Raises:
        ConfigError: `degradation` is none, or the share is out of its domain.
    """

    # In YAML a section; `build_degradation` replaces it by a degradation.
    degradation: Annotated[Component, FromTable("degradations")]
    share: float = 0.1

    def __post_init__(self) -> None:
        """Check the settings."""
        if not callable(self.degradation):
            raise ConfigError(f"degradation: expected a degradation, got {self.degradation!r}")
        check_range("Greyscale.share", (self.share, self.share), 0.0, 1.0)

    @property
    def multiple(self) -> int:
        """Number that divides the sides of valid images."""
        return getattr(self.degradation, "multiple", 1)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """What the degradation returns, for a share of the samples in grey.

        Without "noise_std": the noise of a grey photo is weaker than that of its colours.
        """
        drawn = bernoulli(generator, self.share), None
        return self.apply(clean, drawn, generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> tuple[bool, Any]:
        """Draw whether the photo is grey, and the scene of the degradation, if it has one."""
        is_grey = bernoulli(generator, self.share)
        return is_grey, draw_scene(self.degradation, thumbnail, generator)

    def apply(
        self, clean: Tensor, scene: tuple[bool, Any], generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """As for calling it, for one crop, see `SceneDegradation`.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            scene: a result of `draw_scene`.
            generator: source of randomness.
            frame: position of the crop in the photo.
        """
        is_grey, drawn = scene
        item = degrade(self.degradation, clean, drawn, generator, frame)
        item.pop("noise_std", None)
        if is_grey:
            truth = item.get("gt", clean)
            item |= {"lq": quantise(_grey(item["lq"])), "gt": _grey(truth)}
        return item


def _grey(image: Tensor) -> Tensor:
    """The luma of an image (3, H, W) in all three channels, the same shape."""
    weights = image.new_tensor(LUMA)
    return torch.einsum("c,chw->hw", weights, image).expand_as(image).contiguous()
