"""Several degradations in sequence, for example blur, then noise, then JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Generator, Tensor

from refusion.config.parser import Component, FromTable
from refusion.errors import ConfigError
from refusion.synthesis.degradations.base import degrade, draw_scene
from refusion.synthesis.scenes.frame import PhotoFrame

# In YAML the steps are sections; `build_degradation` replaces them by degradations.
Steps = tuple[Annotated[Component, FromTable("degradations")], ...]


@dataclass(frozen=True)
class Chain:
    """A sequence of degradations; each degrades the output of the one before.

    The ground truth is the "gt" of the first step, or else the clean image. "lens" and "noise_std"
    come from the last step that returns them.

    Attributes:
        steps: the degradations, at least one.

    Raises:
        ConfigError: there are no steps, or a step is no degradation.
    """

    steps: Steps

    def __post_init__(self) -> None:
        """Check the steps."""
        check_steps("steps", self.steps)

    @property
    def multiple(self) -> int:
        """Number that divides the sides of valid images; the product over the steps."""
        return math.prod(getattr(step, "multiple", 1) for step in self.steps)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Apply the steps in order (see `Degradation`).

        Raises:
            ConfigError: a step after the first sets the ground truth, which would contain the
                degradations before it.
        """
        return self.apply(clean, (None,) * len(self.steps), generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> tuple[Any, ...]:
        """Draw the scenes of all steps that have one, see `SceneDegradation`."""
        return tuple(draw_scene(step, thumbnail, generator) for step in self.steps)

    def apply(
        self, clean: Tensor, scene: tuple[Any, ...], generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """Apply the steps in order to one crop, see `SceneDegradation`.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            scene: for each step a result of the function `draw_scene`, or None.
            generator: source of randomness.
            frame: position of the crop in the photo.

        Raises:
            ConfigError: as for calling the chain.
        """
        item = {"lq": clean}
        for number, (step, drawn) in enumerate(zip(self.steps, scene, strict=True)):
            made = degrade(step, item["lq"], drawn, generator, frame)
            if number and "gt" in made:
                name = type(step).__name__
                raise ConfigError(f"steps.{number}: {name} sets the ground truth; put it first")
            item = {**item, **made}
        return item


def check_steps(name: str, steps: Any) -> None:
    """Raise `ConfigError` unless the setting `name` is a tuple of degradations, at least one."""
    if not isinstance(steps, tuple) or not steps:
        raise ConfigError(f"{name}: expected at least one degradation, got {steps!r}")
    for number, step in enumerate(steps):
        if not callable(step):
            raise ConfigError(f"{name}.{number}: expected a degradation, got {step!r}")
