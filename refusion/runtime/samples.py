"""Samples of photos as arrays (C, H, W): integers of a file, and float32 in [0, 1]."""

from __future__ import annotations

import numpy as np

from refusion.errors import ImageError

_FULL = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
ROWS = 256
"""Rows that are converted to floats at a time."""


def to_float(samples: np.ndarray) -> np.ndarray:
    """Samples as float32 in [0, 1]; uint8 and uint16 over their full range.

    Args:
        samples: uint8, uint16 or float; any shape.
    """
    full = _FULL.get(samples.dtype)
    values = samples.astype(np.float32)
    if full is not None:
        values /= np.float32(full)
    return values


def store(values: np.ndarray, target: np.ndarray) -> None:
    """Write float values into samples of the same shape, clamped to [0, 1], rounded to nearest.

    Args:
        values: float, any shape.
        target: uint8, uint16 or float32.
    """
    values = values.clip(0, 1)
    full = _FULL.get(target.dtype)
    if full is not None:  # float32 is precise enough to round by + 0.5 and truncation
        values = values * np.float32(full) + np.float32(0.5)
    target[...] = values


def check_photo(samples: np.ndarray) -> None:
    """Raise `ImageError` unless an array is a photo.

    Args:
        samples: expected (3, H, W), uint8, uint16, or float in [0, 1].
    """
    if not isinstance(samples, np.ndarray):
        raise ImageError(f"photo: expected a NumPy array, got {type(samples).__name__}")
    is_float = samples.dtype.kind == "f"
    if samples.ndim != 3 or len(samples) != 3 or 0 in samples.shape:
        raise ImageError(f"photo: expected three channels of pixels, got shape {samples.shape}")
    if not is_float and samples.dtype not in _FULL:
        raise ImageError(f"photo: expected uint8, uint16 or floats, got {samples.dtype}")
    if is_float and not (samples.min() >= 0 and samples.max() <= 1):  # also of NaN
        raise ImageError("photo: expected finite values in [0, 1]")


def structure(samples: np.ndarray, flat: float, structured: float) -> float:
    """How much of a restoration a photo can carry, see `refusion.restorers.contract.structure`.

    Args:
        samples: (3, H, W).
        flat: largest difference within a channel of a photo of one colour, result 0.
        structured: smallest difference of a photo with structure, result 1.
    """
    difference = max(float(np.ptp(to_float(np.array([c.min(), c.max()])))) for c in samples)
    return min(max((difference - flat) / (structured - flat), 0.0), 1.0)
