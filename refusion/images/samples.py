"""Conversion between integer samples, as in photo files, and float samples, as in networks.

An 8-bit photo needs a quarter of the memory of its float32 copy, so photos are kept as integers and
only the part that is processed is converted.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FULL = {torch.uint8: 255, torch.uint16: 65535}


def is_integer(samples: Tensor) -> bool:
    """Whether samples are uint8 or uint16 over their full range, and not floats in [0, 1]."""
    return samples.dtype in _FULL


def to_float(samples: Tensor) -> Tensor:
    """Convert uint8, uint16 or float samples to float32 in [0, 1].

    Float32 samples are returned without a copy.
    """
    if samples.dtype not in _FULL:
        return samples.float()
    return samples.float().div_(_FULL[samples.dtype])


def store(values: Tensor, target: Tensor) -> None:
    """Write float values into a sample tensor of the same shape, in place.

    Args:
        values: float, any shape; clamped to [0, 1] and rounded to nearest for integer targets.
        target: uint8, uint16 or float; a float target gets the values unchanged.
    """
    if target.dtype in _FULL:
        # Values are below 2^16, where float32 is precise enough to round by + 0.5 and truncation.
        values = values.float().clamp(0, 1).mul_(_FULL[target.dtype]).add_(0.5)
    target.copy_(values)
