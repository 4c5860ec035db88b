"""What every degradation is: from a clean image to what a file of it might have looked like."""

from __future__ import annotations

from typing import Protocol

from torch import Generator, Tensor

from refusion.synthesis.scenes.frame import PhotoFrame


class Degradation(Protocol):
    """A frozen dataclass whose fields are its settings, the words of the YAML.

    One that needs sides of a certain multiple (downsampling) says so in an attribute `multiple`.
    """

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Degrade a crop or a whole photo; a function of the arguments alone.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            generator: source of randomness; same state, same result.
            frame: the crop's place in its photo, for what belongs to the scene.

        Returns:
            "lq" (C, h, w) float32 in [0, 1]; "gt" where the truth is not `clean`; where it applies
            "lens" (3,), "guide" (2, h, w) and "noise_std" (), as the datasets hand them on.
        """
        ...
