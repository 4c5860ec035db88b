"""Float samples outside the range [0, 1], as in scene-referred photos."""

from __future__ import annotations

import logging

import numpy as np

from refusion.errors import ImageError

logger = logging.getLogger(__name__)


def in_unit_range(pixels: np.ndarray, name: str) -> np.ndarray:
    """Clip float samples to [0, 1] in place, with a warning if there is something to clip.

    Networks restore values from black (0) to white (1). Highlights above white would have no place
    in an integer result either.

    Args:
        pixels: float32, any shape.
        name: path of the file, for messages.

    Returns:
        The same array.

    Raises:
        ImageError: a sample is infinite or not a number.
    """
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if not (np.isfinite(low) and np.isfinite(high)):  # also if a sample is not a number
        raise ImageError(
            f"{name}: float samples that are infinite or not a number, expected [0, 1]; save the "
            "photo again without them"
        )
    if low >= 0 and high <= 1:
        return pixels
    share = np.count_nonzero((pixels < 0) | (pixels > 1)) / pixels.size
    logger.warning(
        "%s: float samples from %.4g to %.4g are clipped to [0, 1] (%.2g %% of them); tone-map the "
        "photo first to keep them",
        name,
        low,
        high,
        100 * share,
    )
    return np.clip(pixels, 0, 1, out=pixels)
