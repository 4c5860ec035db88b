"""How large a tile may be: estimates of what a network keeps in memory per pixel."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from refusion.inference.receptive_field import halo_of
from refusion.nets import LatentUNet

logger = logging.getLogger(__name__)
T = TypeVar("T")

CPU_BUDGET = 2**30  # bytes of activations; a 24-megapixel photo then takes 2 to 3 GB in all
_GPU_SHARE = 0.5  # of the free memory: the estimate is one, and others allocate too
_SMALLEST = 64


def activation_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Estimate the peak of activations, in bytes per pixel of a tile.

    For a `LatentUNet` its fine levels while decoding, skips included; for a network on pixels its
    first level, which outweighs the others.
    """
    return _channels(network) * dtype.itemsize


def auto_tile(network: nn.Module, dtype: torch.dtype, batch: int, device: torch.device) -> int:
    """Side in pixels of the largest tile whose activations fit the device's budget.

    Args:
        network: what runs per tile.
        dtype: of its activations.
        batch: photos at once.
        device: a CPU has a budget of `CPU_BUDGET`, a GPU half its free memory.
    """
    budget = CPU_BUDGET
    if device.type == "cuda":
        budget = int(torch.cuda.mem_get_info(device)[0] * _GPU_SHARE)
    halo = halo_of(network).decode if isinstance(network, LatentUNet) else 0
    side = math.isqrt(budget // (batch * activation_bytes(network, dtype))) - 2 * halo
    return max(_SMALLEST, side // _SMALLEST * _SMALLEST)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory, on CPU or GPU, from other errors."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def with_smaller_tiles(run: Callable[[int], T], tile: int) -> T:
    """Call `run(tile)`; when memory runs out, again with half the tile, down to 64 pixels.

    Raises:
        Whatever `run` raises for other reasons, or at the smallest tile.
    """
    while True:
        try:
            return run(tile)
        except (RuntimeError, MemoryError) as error:
            if tile <= _SMALLEST or not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback keeps the tensors of the failed attempt alive.
        tile = max(_SMALLEST, tile // 2)
        logger.warning("out of memory; going on with tiles of %d pixels", tile)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _channels(network: nn.Module) -> int:
    """Full-resolution channels that live at the same time at the peak."""
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).out_channels
    if not isinstance(network, LatentUNet):
        # A level-0 block: state, norm, widened branch and its copies; about 12 times its width.
        return 12 * first
    skips = first
    for level, stage in enumerate(network.encoder[:-1]):
        skips += -(-2 * stage[0].block1.proj.out_channels // 4**level)
    block = network.decoder[-1][0].block1.proj  # sees the widest concatenation at full resolution
    return skips + block.in_channels + 4 * block.out_channels
