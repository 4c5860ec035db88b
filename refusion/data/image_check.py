"""The one check of image tensors at public boundaries."""

from __future__ import annotations

from torch import Tensor

from refusion.errors import ImageError


def check_image(name: str, tensor: Tensor) -> None:
    """Refuse what is not a batch of images.

    Args:
        name: the argument's name, for the message.
        tensor: must be floating point, (B, 3, H, W) with no empty dimension, finite, in [0, 1].

    Raises:
        ImageError: it is not; names the argument, what was expected and what came.
    """
    if not isinstance(tensor, Tensor):
        raise ImageError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise ImageError(f"{name}: expected shape (B, 3, H, W), got {shape}")
    if not tensor.is_floating_point():
        raise ImageError(f"{name}: expected floating point values in [0, 1], got {tensor.dtype}")
    low, high = (value.item() for value in tensor.detach().aminmax())
    # A comparison with NaN is false, and aminmax hands a NaN on: this refuses it too.
    if not (low >= 0 and high <= 1):
        raise ImageError(
            f"{name}: expected finite values in [0, 1], got values from {low:.4g} to {high:.4g}"
        )
