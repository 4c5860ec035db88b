"""What every method on a Stable Diffusion does around its own work: sizes, values not finite."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.devices.precision import PRECISIONS
from refusion.errors import ConfigError, RefusionError
from refusion.nets.layers import pad_to_multiple
from refusion.stable_diffusion.folder import StableDiffusion, cast

LARGEST_UPSCALE = 16
_LONGEST = 4  # sides of the pictures it was trained on that a photo is enlarged to, at most

logger = logging.getLogger(__name__)


def check_upscale(upscale: int) -> None:
    """Refuse what no photo is enlarged by.

    Raises:
        ConfigError: not 1..16.
    """
    if not 1 <= upscale <= LARGEST_UPSCALE:
        raise ConfigError(f"upscale: expected 1 to {LARGEST_UPSCALE}, got {upscale!r}")


def enlarged(photo: Tensor, scale: float) -> Tensor:
    """Photos (B, 3, H, W), `scale` times as long; bicubic as Pillow's, in [0, 1]; a copy."""
    if scale == 1:
        return photo.clone()
    size = [round(side * scale) for side in photo.shape[-2:]]
    return F.interpolate(photo, size, mode="bicubic", antialias=True).clamp_(0, 1)


def on_canvas(sd: StableDiffusion, photo: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work(photo)` for photos of any size, given to it in a size that the networks take.

    Photos with a side shorter than the pictures that the Stable Diffusion was trained on are
    enlarged, and the result is reduced again; sides are padded to whole latents. A strip is not
    enlarged past four such sides, for memory.

    Args:
        sd: what `work` uses.
        photo: (B, 3, H, W) float in [0, 1], any size from 1x1.
        work: photos -> photos, both (B, 3, H', W') float.

    Returns:
        (B, 3, H, W), not clamped.
    """
    height, width = photo.shape[-2:]
    scale = max(1.0, min(sd.side / min(height, width), _LONGEST * sd.side / max(height, width)))
    canvas = photo if scale == 1 else enlarged(photo, scale)
    result = work(pad_to_multiple(canvas, sd.factor * sd.align, "reflect"))
    result = result[..., : canvas.shape[-2], : canvas.shape[-1]]
    if scale == 1:
        return result
    return F.interpolate(result, (height, width), mode="bicubic", antialias=True)


def retry_in_float32(run: Callable[[], Tensor], what: str, *networks: nn.Module) -> Tensor:
    """`run()`, a second time in float32 if networks of a narrow format gave no finite result.

    Args:
        run: uses the networks.
        what: the method, as errors name it.
        networks: cast for the second time, with a logged warning, and cast back.

    Raises:
        RefusionError: not finite in float32 either.
    """
    result = run()
    narrow = {next(network.parameters()).dtype for network in networks} - {torch.float32}
    if narrow and not torch.isfinite(result).all():
        word = next(word for word, dtype in PRECISIONS.items() if dtype in narrow)
        logger.warning("%s: no finite result in %s; again in fp32", what, word)
        with in_float32(*networks):
            result = run()
    if not torch.isfinite(result).all():
        raise RefusionError(
            f"{what} gave values that are not finite, in float32 too: its weights are damaged"
        )
    return result


@contextlib.contextmanager
def in_float32(*networks: nn.Module) -> Iterator[None]:
    """Run networks of a narrow format in float32 within the block; their weights stay the same.

    Each comes back in its own format, in which adapters in training are wider than the rest.
    """
    formats = [(p, p.dtype) for network in networks for p in network.parameters()]
    try:
        for network in networks:
            cast(network, dtype=torch.float32)
        yield
    finally:
        for parameter, dtype in formats:  # the networks of diffusers have no buffers of floats
            parameter.data = parameter.data.to(dtype)
