"""Images of every common kind as RGB batches, and results in the kind of the given image.

Kinds are NumPy arrays, tensors and Pillow images; gray, RGB, and both with alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refusion.errors import ImageError
from refusion.images.arrays import from_batch, to_batch
from refusion.images.check import check_image
from refusion.images.photo import LUMA
from refusion.images.resize import antialiased
from refusion.images.samples import is_integer, store, to_float

Kind = TypeVar("Kind", np.ndarray, Tensor, Image.Image)
_PILLOW_MODES = ("L", "LA", "RGB", "RGBA")


def as_batch(
    name: str, image: Kind, channels: int = 3, *, keeps_gray: bool = True
) -> tuple[Tensor, Callable[[Tensor], Kind]]:
    """Convert an image to a batch that a restorer takes, and prepare the way back.

    Args:
        name: of the argument, for the error message.
        image: NumPy (H, W), (H, W, 1), (H, W, 2) gray and alpha, (H, W, 3) or (H, W, 4) RGBA;
            torch (C, H, W) or (B, C, H, W) with C = 1 to 4; uint8, uint16 or float in [0, 1]; or a
            Pillow image of mode L, LA, RGB or RGBA.
        channels: 3; 6 for the two stacked views of a stereo pair, which have neither alpha nor
            gray.
        keeps_gray: whether the result of a gray image is gray; otherwise it is RGB.

    Returns:
        The batch (B, channels, H, W) of the image's dtype, and a function that turns a restored
        batch (B, channels, h, w) into the kind, layout and dtype of `image`. Alpha is kept; where
        the restored image is larger, alpha is resized bilinearly.

    Raises:
        ImageError: `image` is none of these, or its alpha is not in [0, 1].
    """
    if isinstance(image, Image.Image):
        return _pillow_batch(name, image, keeps_gray=keeps_gray, channels=channels)
    if isinstance(image, np.ndarray) and image.ndim == 2:
        batch, back = as_batch(name, image[..., None], channels, keeps_gray=keeps_gray)
        return batch, lambda result: back(result)[..., 0] if keeps_gray else back(result)
    count = _channel_count(image)
    if channels != 3 or count not in (1, 2, 4):
        return to_batch(name, image, channels), lambda result: from_batch(result, image)
    planes = to_batch(name, image, count)
    colour, alpha = (planes[:, :-1], planes[:, -1:]) if count in (2, 4) else (planes, None)
    if alpha is not None:
        check_image(f"{name}: alpha", alpha, 1, integers=True)
    is_gray = colour.shape[1] == 1

    def back(result: Tensor) -> Kind:
        if is_gray and keeps_gray:
            result = _gray(result)
        if alpha is not None:
            result = result.to(alpha.dtype)  # float64 alpha stays exact
            result = torch.cat([result, _resized(alpha, result)], dim=1)
        return from_batch(result, image)

    return colour.expand(-1, 3, -1, -1), back


def _channel_count(image: object) -> int | None:
    """Number of channels; None if the value is not an image."""
    if isinstance(image, np.ndarray) and image.ndim == 3:
        return image.shape[2]
    if isinstance(image, Tensor) and image.ndim in (3, 4):
        return image.shape[-3]
    return None


def _pillow_batch(
    name: str, image: Image.Image, channels: int, *, keeps_gray: bool
) -> tuple[Tensor, Callable[[Tensor], Image.Image]]:
    if image.mode not in _PILLOW_MODES:
        raise ImageError(
            f"{name}: expected a Pillow image of mode {', '.join(_PILLOW_MODES)}, got "
            f"{image.mode}; convert it, for example by image.convert('RGB')"
        )
    batch, back = as_batch(name, np.asarray(image), channels, keeps_gray=keeps_gray)

    def to_pillow(result: Tensor) -> Image.Image:
        restored = Image.fromarray(back(result))
        restored.info = dict(image.info)
        if restored.mode != image.mode:  # a profile for gray does not fit RGB
            restored.info.pop("icc_profile", None)
        return restored

    return batch, to_pillow


def _gray(result: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of RGB, in the same dtype."""
    luma = (to_float(result) * torch.tensor(LUMA, device=result.device).view(3, 1, 1)).sum(
        1, keepdim=True
    )
    return _like(luma, result)


def _resized(alpha: Tensor, result: Tensor) -> Tensor:
    """Alpha (B, 1, H, W) at the size of the result, in its dtype and on its device."""
    if alpha.shape[-2:] != result.shape[-2:]:
        alpha = antialiased(to_float(alpha), result.shape[-2:], "bilinear")
    return _like(alpha.to(result.device), result)


def _like(plane: Tensor, result: Tensor) -> Tensor:
    if plane.dtype == result.dtype or not is_integer(result):
        return plane.to(result.dtype)
    out = torch.empty(plane.shape, dtype=result.dtype, device=result.device)
    store(plane, out)
    return out
