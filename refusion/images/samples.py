"""Samples of photos: whole numbers as files hold them, floats as networks want them.

A photo in 8 bits takes a quarter of the memory of its floats, so it stays as it is and becomes
floats where and when a part of it is worked on.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FULL = {torch.uint8: 255, torch.uint16: 65535}


def is_integer(samples: Tensor) -> bool:
    """Tell uint8 and uint16, whole numbers over their full range, from floats in [0, 1]."""
    return samples.dtype in _FULL


def to_float(samples: Tensor) -> Tensor:
    """Samples, uint8, uint16 or float -> float32 in [0, 1]; float32 comes back as it is."""
    if samples.dtype not in _FULL:
        return samples.float()
    return samples.float().div_(_FULL[samples.dtype])


def store(values: Tensor, target: Tensor) -> None:
    """Write float values into samples of the same shape.

    Integer targets get values clamped to [0, 1] and rounded to nearest, float targets as they are.
    """
    if target.dtype in _FULL:
        # Below 2^16 a float32 plus 0.5 is exact enough to be cut to the nearest integer.
        values = values.float().clamp(0, 1).mul_(_FULL[target.dtype]).add_(0.5)
    target.copy_(values)
