"""Steps that all methods on a Stable Diffusion share: photo sizes, and retries in float32."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.devices.precision import PRECISIONS
from refusion.errors import ConfigError, RefusionError
from refusion.images.resize import antialiased
from refusion.nets.layers import pad_to_multiple
from refusion.stable_diffusion.folder import StableDiffusion, cast

LARGEST_UPSCALE = 16
_LONGEST = 4  # limit of the enlarged long side, in multiples of the training images' side

logger = logging.getLogger(__name__)


def check_upscale(upscale: int) -> None:
    """Check the factor by which photos are enlarged.

    Raises:
        ConfigError: `upscale` is not in 1..16.
    """
    check_arguments(check_upscale, locals())
    if not 1 <= upscale <= LARGEST_UPSCALE:
        raise ConfigError(f"upscale: expected 1 to {LARGEST_UPSCALE}, got {upscale!r}")


def enlarged(photo: Tensor, scale: float) -> Tensor:
    """Enlarge photos by bicubic interpolation with antialiasing, as Pillow does.

    Args:
        photo: (B, 3, H, W) float in [0, 1].
        scale: factor for both sides.

    Returns:
        A new tensor (B, 3, round(scale * H), round(scale * W)), clamped to [0, 1].
    """
    check_arguments(enlarged, locals())
    if scale == 1:
        return photo.clone()
    size = [round(side * scale) for side in photo.shape[-2:]]
    return antialiased(photo, size).clamp_(0, 1)


def on_canvas(sd: StableDiffusion, photo: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `work` to photos of any size, at a size that the networks accept.

    A photo whose short side is below the side of the training images is enlarged first, and the
    result is reduced to the photo's size. To limit the memory for narrow photos, the long side is
    enlarged to at most four times the side of the training images. Sides are padded by reflection
    to multiples of the networks' strides, and the padding is cut off the result.

    Args:
        sd: model that `work` uses.
        photo: (B, 3, H, W) float in [0, 1], any size from 1x1.
        work: function from photos to photos, both (B, 3, H', W') float.

    Returns:
        (B, 3, H, W), not clamped.
    """
    check_arguments(on_canvas, locals())
    height, width = photo.shape[-2:]
    scale = max(1.0, min(sd.side / min(height, width), _LONGEST * sd.side / max(height, width)))
    canvas = photo if scale == 1 else enlarged(photo, scale)
    result = work(pad_to_multiple(canvas, sd.factor * sd.align, "reflect"))
    result = result[..., : canvas.shape[-2], : canvas.shape[-1]]
    if scale == 1:
        return result
    return antialiased(result, (height, width))


def retry_in_float32(run: Callable[[], Tensor], what: str, *networks: nn.Module) -> Tensor:
    """Call `run()`; if networks in 16-bit formats give values that are not finite, use float32.

    The second call casts the networks to float32 and back, and logs a warning.

    Args:
        run: computes a result with the networks.
        what: name of the method, for messages.
        networks: networks to cast.

    Returns:
        The result of `run`, all values finite.

    Raises:
        RefusionError: the result in float32 is not finite either.
    """
    check_arguments(retry_in_float32, locals())
    result = run()
    narrow = {next(network.parameters()).dtype for network in networks} - {torch.float32}
    if narrow and not torch.isfinite(result).all():
        name = next(name for name, dtype in PRECISIONS.items() if dtype in narrow)
        logger.warning("%s: no finite result in %s; again in fp32", what, name)
        with in_float32(*networks):
            result = run()
    if not torch.isfinite(result).all():
        raise RefusionError(
            f"{what} gave values that are not finite, also in float32: its weights are damaged"
        )
    return result


@contextlib.contextmanager
def in_float32(*networks: nn.Module) -> Iterator[None]:
    """Cast the parameters of networks to float32 within the block, and back afterwards.

    Each parameter returns to its own dtype, because adapters in training are float32 in a network
    whose other parameters are in a 16-bit format. The values of the parameters do not change.
    """
    formats = [(p, p.dtype) for network in networks for p in network.parameters()]
    try:
        for network in networks:
            cast(network, dtype=torch.float32)
        yield
    finally:
        for parameter, dtype in formats:  # the networks of diffusers have no float buffers
            parameter.data = parameter.data.to(dtype)
