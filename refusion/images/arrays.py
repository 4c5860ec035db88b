"""Conversion of NumPy arrays and tensors to image batches, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from refusion.errors import ImageError

Image = np.ndarray | Tensor
"""NumPy (H, W, C), or torch (C, H, W) or (B, C, H, W): float in [0, 1], uint8 or uint16."""
_FULL = {torch.uint8: 255, torch.uint16: 65535}


def to_batch(name: str, image: Image, channels: int = 3) -> Tensor:
    """Convert an image to a batch (B, channels, H, W) with the same dtype and values.

    A NumPy array is copied; a tensor is returned as a view.

    Args:
        name: the name of the argument, for the error message.
        image: see `Image`.
        channels: 3 for RGB, 6 for the two views of a stereo pair.

    Returns:
        (B, channels, H, W), with B = 1 for a single image.

    Raises:
        ImageError: `image` has another type, shape or dtype than `Image` allows.

    >>> to_batch("image", np.zeros((4, 5, 3), np.uint8)).shape
    torch.Size([1, 3, 4, 5])
    """
    if isinstance(image, np.ndarray):
        is_float = image.dtype.kind == "f" and image.dtype.itemsize <= 8
        is_known = image.dtype.isnative and (image.dtype in (np.uint8, np.uint16) or is_float)
        if image.ndim == 3 and image.shape[2] == channels and is_known:
            # A copy, because tensors support neither read-only arrays nor negative strides.
            return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))[None]
        got = f"{image.dtype} {image.shape}"
    elif isinstance(image, Tensor):
        is_known = image.dtype in _FULL or image.is_floating_point()
        if image.ndim in (3, 4) and image.shape[-3] == channels and is_known:
            return image if image.ndim == 4 else image[None]
        got = f"{image.dtype} {tuple(image.shape)}"
    else:
        got = type(image).__name__
    raise ImageError(
        f"{name}: expected an array (H, W, {channels}), or a tensor ({channels}, H, W) or "
        f"(B, {channels}, H, W), of uint8, uint16, or floats in [0, 1]; got {got}"
    )


def from_batch(batch: Tensor, like: Image) -> Image:
    """Convert a batch back to the type, layout and dtype of an image; the inverse of `to_batch`.

    Args:
        batch: (B, C, H, W); B must be 1 unless `like` is a batch.
        like: the image that was given to `to_batch`.
    """
    if isinstance(like, np.ndarray):
        return np.ascontiguousarray(batch[0].movedim(0, 2).cpu().numpy().astype(like.dtype))
    return (batch if like.ndim == 4 else batch[0]).to(like.dtype)


def unit_range(batch: Tensor) -> Tensor:
    """Convert values to float32 in [0, 1].

    Args:
        batch: uint8 (divided by 255), uint16 (divided by 65535) or float in [0, 1].
    """
    return batch.float() / _FULL.get(batch.dtype, 1)
