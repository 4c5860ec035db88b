"""Several degradations in a row, such as blur, then noise, then JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from torch import Generator, Tensor

from refusion.config.parser import Component, FromTable
from refusion.errors import ConfigError
from refusion.synthesis.scenes.frame import PhotoFrame

# What the YAML writes as sections; `build_degradation` hands over the built degradations.
Steps = tuple[Annotated[Component, FromTable("degradations")], ...]


@dataclass(frozen=True)
class Chain:
    """Each step degrades what the one before it made.

    The truth is that of the first step, or the clean image; "lens" and "noise_std" are those of the
    last step that gives them.

    Attributes:
        steps: the degradations, at least one.
    """

    steps: Steps

    def __post_init__(self) -> None:
        """Raise ConfigError without steps, or where one is no degradation."""
        if not isinstance(self.steps, tuple) or not self.steps:
            raise ConfigError(f"steps: expected at least one degradation, got {self.steps!r}")
        for number, step in enumerate(self.steps):
            if not callable(step):
                raise ConfigError(f"steps.{number}: expected a degradation, got {step!r}")

    @property
    def multiple(self) -> int:
        """What the sides must be a multiple of: downsampling by 2 and by 3 need 6."""
        return math.prod(getattr(step, "multiple", 1) for step in self.steps)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Degrade in order (see `Degradation`).

        Raises:
            ConfigError: a later step sets the truth: its own would show what came before it.
        """
        item = self.steps[0](clean, generator, frame)
        for number, step in enumerate(self.steps[1:], 1):
            made = step(item["lq"], generator, frame)
            if "gt" in made:
                name = type(step).__name__
                raise ConfigError(f"steps.{number}: {name} sets the truth itself; put it first")
            item = {**item, **made}
        return item
