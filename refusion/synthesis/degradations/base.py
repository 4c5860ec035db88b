"""The interface of degradations: a clean image in, a degraded image out."""

from __future__ import annotations

from typing import Protocol

from torch import Generator, Tensor

from refusion.synthesis.scenes.frame import PhotoFrame


class Degradation(Protocol):
    """Interface of a degradation: a frozen dataclass whose fields are its settings, as in YAML.

    If the sides of the image must be multiples of a number (downsampling), the class has an
    attribute `multiple` with that number.
    """

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Degrade a crop or a whole photo; the result depends on the arguments only.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            generator: source of randomness; the same state gives the same result.
            frame: position of the crop in its photo, for effects that depend on the scene.

        Returns:
            "lq" (C, h, w) float32 in [0, 1]; "gt" (C, H, W) if the ground truth is not `clean`; for
            some degradations also "lens" (3,), "guide" (2, h, w) and "noise_std" (), which the
            datasets copy to their items.
        """
        ...
