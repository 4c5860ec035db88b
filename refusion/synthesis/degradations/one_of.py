"""One of several degradations, drawn for each sample: a network that sees all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.randomness import categorical
from refusion.synthesis.degradations.base import degrade, draw_scene
from refusion.synthesis.degradations.chain import Steps, check_steps
from refusion.synthesis.scenes.frame import PhotoFrame


@dataclass(frozen=True)
class OneOf:
    """Each sample gets one of several degradations. Crops that share a scene get the same one.

    Attributes:
        choices: the degradations, at least one.
        weights: relative frequencies of the choices; empty for equal ones.

    Raises:
        ConfigError: there are no choices, a choice is no degradation, or the weights are not as
            many numbers from 0, at least one above it.
    """

    choices: Steps
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the choices and the weights."""
        check_steps("choices", self.choices)
        if not self.weights:
            return
        are_weights = all(math.isfinite(w) and w >= 0 for w in self.weights)
        if not are_weights or len(self.weights) != len(self.choices) or sum(self.weights) <= 0:
            raise ConfigError(
                f"weights: expected {len(self.choices)} numbers from 0, one above 0, or none; got "
                f"{list(self.weights)}"
            )

    @property
    def multiple(self) -> int:
        """Number that divides the sides of valid images: they suit every choice."""
        return math.lcm(*(getattr(choice, "multiple", 1) for choice in self.choices))

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """What the drawn degradation returns (see `Degradation`)."""
        return self.choices[self._draw(generator)](clean, generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> tuple[int, Any]:
        """Draw the choice, and its scene if it has one, see `SceneDegradation`."""
        place = self._draw(generator)
        return place, draw_scene(self.choices[place], thumbnail, generator)

    def apply(
        self, clean: Tensor, scene: tuple[int, Any], generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """What the degradation of the scene returns for one crop, see `SceneDegradation`.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            scene: a result of `draw_scene`.
            generator: source of randomness.
            frame: position of the crop in the photo.
        """
        place, drawn = scene
        return degrade(self.choices[place], clean, drawn, generator, frame)

    def _draw(self, generator: Generator) -> int:
        return categorical(generator, self.weights or (1.0,) * len(self.choices))
