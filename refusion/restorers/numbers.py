"""Numbers of the conditions of a photo as tensors, with one line about a value that is none."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from refusion.errors import ConfigError, short


def as_numbers(name: str, value: object) -> Tensor:
    """Numbers as a tensor.

    Args:
        name: what the error names.
        value: a tensor, an array, or a list of numbers.

    Raises:
        ConfigError: the value does not consist of finite real numbers.
    """
    found = _as_tensor(name, value, "numbers")
    # `aminmax` needs no copy of a large map, unlike `isfinite` of all values.
    if found.is_floating_point() and found.numel() and not sum(found.aminmax()).isfinite():
        raise ConfigError(f"{name}: expected finite values, got NaN or infinity among them")
    return found


def as_noise_std(name: str, value: object) -> float | Tensor:
    """A noise level as a float, several as a float64 tensor; the model checks their range.

    Raises:
        ConfigError: the value does not consist of real numbers.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    return _as_tensor(name, value, "one number", torch.float64)


def _as_tensor(name: str, value: object, expected: str, dtype: torch.dtype | None = None) -> Tensor:
    try:
        found = torch.as_tensor(value)
        is_real = found.dtype != torch.bool and not found.is_complex()
        # Not from `found`: a list of numbers becomes float32 without a dtype.
        found = torch.as_tensor(value, dtype=dtype) if is_real else None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = None
    if found is None:
        shape = getattr(value, "shape", None)
        got = short(value) if shape is None else f"values of {value.dtype}, shape {tuple(shape)}"
        raise ConfigError(f"{name}: expected {expected}, got {got}")
    return found
