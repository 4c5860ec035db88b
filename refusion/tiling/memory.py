"""How large a tile may be: estimates of what a network keeps in memory per pixel."""

from __future__ import annotations

import logging
import math
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from refusion.errors import ConfigError, ImageError
from refusion.nets import LatentUNet
from refusion.tiling.receptive_field import halo_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Bytes of activations; larger tiles are no faster. A photo of 24 megapixels then takes 1.5 GB in
# all, one of 100 megapixels 2.5 GB.
CPU_BUDGET = 400 * 2**20
_KEPT = 3  # bytes of the process per byte in use: freed pieces do not always fit what comes next
_BESIDE = 100 * 2**20  # bytes of the libraries' kernels and scratch space
_GPU_SHARE = 0.5  # of the free memory: the estimate is one, and others allocate too
_SMALLEST = 64
_BARE = 400 * 2**20  # bytes of the process with a model but without a photo, if it cannot tell


def activation_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Estimate the peak of activations, in bytes per pixel of a tile.

    For a `LatentUNet` its fine levels while decoding, skips included; for a network on pixels its
    first level, which outweighs the others.
    """
    return _channels(network) * dtype.itemsize


def auto_tile(
    network: nn.Module,
    dtype: torch.dtype,
    photos: Tensor,
    device: torch.device,
    limit: int | None = None,
    copy: Tensor | None = None,
) -> int:
    """Side in pixels of the largest tile that is of use and whose activations fit.

    Args:
        network: what runs per tile.
        dtype: of its activations.
        photos: what is restored, (B, C, H, W).
        device: on a CPU activations take `CPU_BUDGET`, on a GPU half its free memory.
        limit: bytes that the whole process may take of the device's memory; None for no limit.
        copy: what the network sees instead of the photos, smaller. A limit does not make its
            tiles smaller: they are blended, and of so small a picture each would know too little.

    Raises:
        ImageError: the photos would take more than the limit with the smallest tiles.
    """
    seen = photos if copy is None else copy
    per_pixel = len(photos) * activation_bytes(network, dtype)
    halo = halo_of(network).decode if isinstance(network, LatentUNet) else 0

    def side(budget: int) -> int:
        longest = math.isqrt(max(0, budget) // per_pixel) - 2 * halo
        return max(_SMALLEST, longest // _SMALLEST * _SMALLEST)

    budget, taken = CPU_BUDGET, 0
    if device.type == "cuda":
        budget = int(torch.cuda.mem_get_info(device)[0] * _GPU_SHARE)
    smallest = _SMALLEST if copy is None else min(max(copy.shape[-2:]), side(budget))
    if limit is not None:
        taken = _taken(device) + _held_bytes(network, dtype, seen) + _BESIDE
        taken += 0 if copy is None else photos.nbytes  # the result
        budget = min(budget, (limit - taken) // _KEPT)
    least = per_pixel * (smallest + 2 * halo) ** 2
    if limit is not None and budget < least:
        raise ImageError(
            f"max memory: a photo of {photos.shape[3]}x{photos.shape[2]} takes about "
            f"{(taken + least * _KEPT) / 2**30:.1f} GB, more than the {limit / 2**30:.1f} allowed"
        )
    return max(smallest, side(budget))


def parse_memory(text: str) -> int:
    """Bytes of a size as users write it: a number and, as an option, K, M, G or T (of 1024).

    Raises:
        ConfigError: it is none, or not above 0.

    >>> parse_memory("1.5G") == 3 * 2**29
    True
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = 0 if found is None else int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper()))
    if size < 1:
        raise ConfigError(f"memory: expected a size such as 800M or 4G, got {text!r}")
    return size


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


def _taken(device: torch.device) -> int:
    """Bytes that the process holds now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:  # only Linux tells
        return _BARE


def _held_bytes(network: nn.Module, dtype: torch.dtype, photos: Tensor) -> int:
    """Bytes of what is held of whole photos while tiles run: the result and maps."""
    result = photos.numel() * photos.element_size()
    if not isinstance(network, LatentUNet):
        return 6 * result  # state, mean, estimates and noise beside it
    block, _, _, leave = network.encoder[-1]  # two skips, and what the coarse level decodes to
    channels = 2 * block.block1.proj.in_channels + leave.out_channels
    pixels = photos.numel() // photos.shape[1] // network.factor**2
    return result + pixels * channels * dtype.itemsize


def _channels(network: nn.Module) -> int:
    """Full-resolution channels that live at the same time at the peak."""
    if hasattr(network, "channels_at_once"):
        return network.channels_at_once
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).out_channels
    if not isinstance(network, LatentUNet):
        # A level-0 block: state, norm, widened branch and its copies; about 12 times its width.
        return 12 * first
    skips = first
    for level, stage in enumerate(network.encoder[:-1]):
        skips += -(-2 * stage[0].block1.proj.out_channels // 4**level)
    block = network.decoder[-1][0].block1.proj  # sees the widest concatenation at full resolution
    return -(-(skips + block.in_channels + 4 * block.out_channels) // network.pixel_unshuffle**2)
