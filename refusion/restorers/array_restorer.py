"""A restorer as a function of one image: what `refusion.load_restorer` gives."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from refusion.images.arrays import Image, from_batch, to_batch
from refusion.restorers.base import Restorer, RestorerInfo


class ArrayRestorer:
    """A restorer that can also be called with an image, NumPy or torch.

    Args:
        restorer: what does the work.
    """

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer

    @property
    def info(self) -> RestorerInfo:
        """What this restorer is."""
        return self._restorer.info

    def __call__(self, image: Image, **options: Any) -> Image:
        """Restore an image; the result has its kind, layout and dtype.

        Integers are restored over their full range and rounded to nearest; floats are in [0, 1].

        Args:
            image: NumPy (H, W, 3), or torch (3, H, W) or (B, 3, H, W), RGB (not BGR), any size
                from 1x1: uint8, uint16, or float in [0, 1]. Of a stereo model the two views are
                stacked: 6 channels.
            options: `steps`, `sampler`, `seed`, `tile`, `known`, `strength`, `callback`, as
                `Restorer.restore` takes them.

        Returns:
            The restored image, its sides `info.scale` times as long.

        Raises:
            ImageError: `image` is no such image.
            ConfigError: an option is wrong.
            RefusionError: the network gave no finite result.

        >>> import numpy as np
        >>> from refusion import load_restorer
        >>> restore = load_restorer("dehaze", device="cpu")
        >>> hazy = np.full((24, 32, 3), 180, np.uint8)
        >>> clear = restore(hazy, seed=1)
        >>> clear.shape, clear.dtype
        ((24, 32, 3), dtype('uint8'))
        """
        batch = to_batch("image", image, 3 * self.info.views)
        return from_batch(self.restore(batch, **options), image)

    def restore(self, lq: Tensor, **options: Any) -> Tensor:
        """See `Restorer.restore`."""
        return self._restorer.restore(lq, **options)
