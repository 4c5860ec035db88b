"""The result of `ArrayRestorer.decompose`: an image as haze and clear scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Literal

import numpy as np
import torch
from torch import Tensor

from refusion.images.kinds import Kind
from refusion.restorers.base import HAZE_STRENGTHS, HazeOptions
from refusion.restorers.contract import check_strength, match_dtype
from refusion.restorers.refusion.decomposition import Decomposition


class ArrayDecomposition(Generic[Kind]):
    """An image and its haze; the clear image follows without another run of the network.

    A tensor is not copied, so do not change it while you use this object.

    Args:
        image: the image: NumPy, torch or Pillow.
        batch: `image` as a batch, (B, 3, H, W).
        back: turns such a batch into the kind and dtype of `image`.
        haze: the haze of the batch, a small object without the photos.
    """

    def __init__(
        self, image: Kind, batch: Tensor, back: Callable[[Tensor], Kind], haze: Decomposition
    ) -> None:
        self.haze = haze
        self._image, self._batch, self._back = image, batch, back

    def __repr__(self) -> str:
        """Size of the image and its mean transmission."""
        height, width = self._batch.shape[-2:]
        mean = self.haze.scattering.transmission.mean().item()
        return f"{type(self).__name__}({width}x{height}, mean transmission {mean:.2f})"

    @property
    def transmission(self) -> np.ndarray | Tensor:
        """The share t of the scene's light that reaches the camera, float32 in [0, 1].

        It has the size of the image: a tensor (1, H, W) or (B, 1, H, W) for a tensor, otherwise an
        array (H, W).
        """
        found = self.haze.transmission(self._batch)
        return self._like_image(found) if isinstance(self._image, Tensor) else found[0, 0].numpy()

    @property
    def airlight(self) -> np.ndarray | Tensor:
        """Mean colour of the haze, RGB in [0, 1]: (3,), or (B, 3) for a batch."""
        found = self._like_image(self.haze.airlight)
        return found if isinstance(self._image, Tensor) else found.numpy()

    def clear(
        self,
        strength: float = 1.0,
        distance: float = 1.0,
        airlight: tuple[float, float, float] | None = None,
        exposure: float | Literal["auto"] = "auto",
    ) -> Kind:
        """The image without haze, in the kind, layout and dtype of the image.

        Args:
            strength: t is replaced by t^strength, from -2 to 2: 0 gives the image, 1 removes the
                haze, values above 1 remove more than the model finds, negative ones add haze.
            distance: share of the largest optical depth up to which haze is removed, in [0, 1].
            airlight: colour of the haze, RGB in [0, 1]; None for the colour that the model finds.
            exposure: stops, -4 to 4, or 'auto'; see `HazeOptions`.

        Raises:
            ConfigError: a value is out of range.
        """
        check_strength(strength, HAZE_STRENGTHS)
        options = HazeOptions(distance, airlight, exposure)
        if strength == 0:
            return self._back(self._batch.clone())
        with torch.no_grad():
            scene = self.haze.clear(self._batch, strength, options)
            return self._back(match_dtype(scene, self._batch))

    def _like_image(self, values: Tensor) -> Tensor:
        """Values (B, ...) without the axis of the batch, if the image has none."""
        is_batch = isinstance(self._image, Tensor) and self._image.ndim == 4
        return values if is_batch else values[0]
