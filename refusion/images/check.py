"""The one check of image tensors at public boundaries."""

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
    """Refuse what is not a batch of images.

    Args:
        name: the argument's name, for the message.
        tensor: must be floating point, (B, channels, H, W) with no empty dimension, finite, in
            [0, 1].
        channels: 3, or 6 for the two views of a stereo pair.
        margin: how far values may leave [0, 1], as those of noisy images do that no file has cut.
        integers: let uint8 and uint16 pass, whose values cannot be wrong.

    Raises:
        ImageError: it is not; names the argument, what was expected and what came.
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
    # A comparison with NaN is false, and aminmax hands a NaN on: this refuses it too.
    if not (low >= -margin and high <= 1 + margin):
        raise ImageError(
            f"{name}: expected finite values in [0, 1], got values from {low:.4g} to {high:.4g}"
        )
