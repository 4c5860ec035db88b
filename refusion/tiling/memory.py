"""The size of tiles: estimates of the memory that a network needs per pixel."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from refusion.errors import ImageError
from refusion.memory import is_out_of_memory, process_bytes
from refusion.nets import LatentUNet
from refusion.tiling.receptive_field import halo_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Bytes of activations; larger tiles are not faster. With this value a photo of 24 megapixels needs
# 1.5 GB in total, and a photo of 100 megapixels 2.5 GB.
CPU_BUDGET = 400 * 2**20
_FRAGMENTATION = 3  # bytes of the process per byte in use, because freed blocks are not all reused
_LIBRARIES = 100 * 2**20  # bytes of the kernels and the scratch space of the libraries
_GPU_SHARE = 0.5  # of the free memory, because this is an estimate and other code allocates too
# Bytes of activations on a GPU: enough to use all its cores. Each map then also has less than 2^31
# values, beyond which some kernels of CUDA do not work.
_GPU_BUDGET = 8 * 2**30
_PHOTO_SHARE = 0.25  # of the free memory of a GPU, for whole photos and their results
_MIN_TILE = 64  # pixels
_DEFAULT_WIDTH = 64  # channels of the first level, assumed for a network without an `nn.Conv2d`


def activation_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Estimate the peak memory of the activations, in bytes per pixel of a tile.

    For a `LatentUNet` the peak is in the fine levels while decoding, including the skips. For a
    network on pixels it is in the first level, which needs more memory than the others. The width
    of that level is the number of output channels of the first `nn.Conv2d`, or 64 if there is none.
    A network can define its own number with the attribute `channels_at_once`: the channels at full
    resolution that are in memory at the same time.

    Args:
        network: the network that runs per tile.
        dtype: dtype of its activations.
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
    """Side in pixels of the largest useful tile whose activations fit into memory.

    Args:
        network: the network that runs per tile.
        dtype: dtype of its activations.
        photos: the photos to restore, (B, C, H, W).
        device: on a CPU the activations may take `CPU_BUDGET`, on a GPU half of its free memory
            and at most 8 GiB.
        limit: maximum number of bytes of the whole process in the memory of the device; None for
            no limit.
        copy: reduced copy of the photos, (B, C, h, w), if the network runs on it; otherwise None.
            The limit does not reduce the tiles of a copy: they are blended, and small tiles of a
            small image would have too little context.

    Returns:
        Side >= 64, a multiple of 64 unless it is the longer side of `copy`, or of photos that have
        no more pixels than a tile.

    Raises:
        ImageError: the photos need more memory than the limit with the smallest tiles.
    """
    inputs = photos if copy is None else copy
    per_pixel = len(photos) * activation_bytes(network, dtype)
    halo = halo_of(network).decode if isinstance(network, LatentUNet) else 0

    def side(budget: int) -> int:
        longest = math.isqrt(max(0, budget) // per_pixel) - 2 * halo
        return max(_MIN_TILE, longest // _MIN_TILE * _MIN_TILE)

    budget, other = CPU_BUDGET, 0
    if device.type == "cuda":
        budget = min(_GPU_BUDGET, int(free_memory(device) * _GPU_SHARE))
    smallest = _MIN_TILE if copy is None else min(max(copy.shape[-2:]), side(budget))
    if limit is not None:
        other = _process_bytes(device) + _whole_photo_bytes(network, dtype, inputs) + _LIBRARIES
        other += 0 if copy is None else photos.nbytes  # the result
        budget = min(budget, (limit - other) // _FRAGMENTATION)
    needed = per_pixel * (smallest + 2 * halo) ** 2
    if limit is not None and budget < needed:
        total = (other + needed * _FRAGMENTATION) / 2**30
        raise ImageError(
            f"max memory: a photo of {photos.shape[3]}x{photos.shape[2]} needs about {total:.1f} "
            f"GB, more than the limit of {limit / 2**30:.1f} GB; increase the limit or reduce the "
            "photo"
        )
    found, (height, width) = max(smallest, side(budget)), inputs.shape[-2:]
    # A photo of no more pixels than a tile needs no tiles, which would overlap.
    is_small = (height + 2 * halo) * (width + 2 * halo) <= (found + 2 * halo) ** 2
    return max(found, height, width) if is_small else found


def with_smaller_tiles(run: Callable[[int], T], tile: int) -> T:
    """Call `run(tile)`; if memory is not sufficient, repeat with half the tile, down to 64 pixels.

    Args:
        run: function of the side of the tiles.
        tile: first side to try, in pixels.

    Returns:
        The result of `run`.

    Raises:
        Exception: any other error of `run`, and its out-of-memory error at the smallest tile.
    """
    while True:
        try:
            return run(tile)
        except (RuntimeError, MemoryError, OSError) as error:
            if tile <= _MIN_TILE or not is_out_of_memory(error):
                raise
        # After the handler: inside it the traceback keeps the tensors of the failed attempt alive.
        tile = max(_MIN_TILE, tile // 2)
        logger.warning("out of memory; trying again with tiles of %d pixels", tile)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Free memory of a GPU in bytes, with the blocks that PyTorch keeps for its next tensors.

    Args:
        device: a CUDA device.
    """
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def on_device(photos: Tensor, device: torch.device, limit: int | None = None) -> Tensor:
    """Copy photos to a GPU, where all work on whole photos is much faster than on the CPU.

    Photos that would take more than a quarter of the free memory with their result stay where they
    are: then their tiles are copied one at a time.

    Args:
        photos: (B, C, H, W), any dtype.
        device: device of the networks.
        limit: maximum number of bytes of the whole process in the memory of the device; None for
            no limit.

    Returns:
        The photos on `device`, or `photos` itself.
    """
    if device.type == "cpu" or photos.device == device:
        return photos
    room = free_memory(device)
    if limit is not None:
        room = min(room, limit - _process_bytes(device))
    return photos.to(device) if 2 * photos.nbytes <= room * _PHOTO_SHARE else photos


def memory_left(limit: int, device: torch.device | str) -> int:
    """Memory in bytes that a process may still use to decode photos.

    Args:
        limit: maximum number of bytes of the whole process in the memory of the device.
        device: a CPU, whose memory holds the process and the photos; or a GPU, where no photo is
            decoded: then a photo may need as much memory of the computer as the limit says.

    Returns:
        Bytes; negative if the process is larger than the limit.
    """
    device = torch.device(device)
    return limit - _process_bytes(device) if device.type == "cpu" else limit


def _process_bytes(device: torch.device) -> int:
    """Memory of the process at this moment, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return process_bytes()


def _whole_photo_bytes(network: nn.Module, dtype: torch.dtype, photos: Tensor) -> int:
    """Memory of the results and maps of whole photos that exist while the tiles run, in bytes."""
    result = photos.numel() * photos.element_size()
    if not isinstance(network, LatentUNet):
        return 6 * result  # also the state, mean, estimates and noise
    block, _, _, resample = network.encoder[-1]  # two skips, and the output of the coarse level
    channels = 2 * block.block1.proj.in_channels + resample.out_channels
    pixels = photos.numel() // photos.shape[1] // network.factor**2
    return result + pixels * channels * dtype.itemsize


def _channels(network: nn.Module) -> int:
    """Number of full-resolution channels in memory at the same time at the peak."""
    if hasattr(network, "channels_at_once"):
        return network.channels_at_once
    convs = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    first = next((conv.out_channels for conv in convs), _DEFAULT_WIDTH)
    if not isinstance(network, LatentUNet):
        # A block of level 0 needs about 12 times its width: input, norm, wide branch and copies.
        return 12 * first
    skips = first
    for level, stage in enumerate(network.encoder[:-1]):
        skips += -(-2 * stage[0].block1.proj.out_channels // 4**level)
    block = network.decoder[-1][0].block1.proj  # has the widest input at full resolution
    return -(-(skips + block.in_channels + 4 * block.out_channels) // network.pixel_unshuffle**2)
