"""Check of image tensors that come from callers."""

from __future__ import annotations

from torch import Tensor

from refusion.errors import ImageError
from refusion.images.samples import is_integer


def check_image(
    name: str,
    tensor: Tensor,
    channels: int = 3,
    margin: float = 0.0,
    *,
    integers: bool = False,
) -> None:
    """Raise `ImageError` unless a tensor is a valid batch of images.

    Args:
        name: the name of the argument, for the error message.
        tensor: must be floating point, (B, channels, H, W) with no empty dimension, finite, in
            [0, 1].
        channels: 3, or 6 for the two views of a stereo pair.
        margin: allowed distance outside [0, 1], for noisy images that were not clipped.
        integers: also accept uint8 and uint16, whose values are always valid.

    Raises:
        ImageError: wrong type, shape, dtype or range; the message names the argument.
    """
    if not isinstance(tensor, Tensor):
        raise ImageError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[1] != channels or 0 in shape:
        raise ImageError(f"{name}: expected shape (B, {channels}, H, W), got {shape}")
    if integers and is_integer(tensor):
        return
    if not tensor.is_floating_point():
        raise ImageError(f"{name}: expected floating point values in [0, 1], got {tensor.dtype}")
    low, high = (value.item() for value in tensor.detach().aminmax())
    # aminmax returns NaN if a value is NaN, and the comparison is then false.
    if not (low >= -margin and high <= 1 + margin):
        raise ImageError(
            f"{name}: expected finite values in [0, 1], got values from {low:.4g} to {high:.4g}"
        )
