"""The coarse level of a `LatentUNet` over a whole map, in bounded memory.

Its residual blocks are convolutions and run in tiles with a halo, as the fine levels do. Its linear
attention sees the map only through one matrix per head, a sum over all pixels (Katharopoulos 2020):
it is summed up band by band, the softmax over pixels with a running maximum, then applied band by
band. In float32, so that the result does not depend on the bands beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.nets import LatentUNet
from refusion.nets.layers import LayerNorm, LinearAttention, Residual
from refusion.tiling.receptive_field import margin_before
from refusion.tiling.regions import tile_regions

_BAND = 2**12  # pixels: what the attention makes of them stays in the processor's cache
_GPU_BAND = 2**18  # enough of them to keep all its cores busy


def coarse_encode(
    unet: LatentUNet, x: Tensor, tile: int | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`unet.coarse_encode`: map at 1/factor -> latent and the two skips of the last level.

    Args:
        unet: the network.
        x: (B, C, h, w), on the network's device, in its format.
        tile: side of the tiles in pixels of the map; None for the whole map.
    """
    block1, block2, attention, down = unet.encoder[-1]

    def blocks(x: Tensor) -> tuple[Tensor, Tensor]:
        first = block1(x)
        return first, block2(first)

    def leave(x: Tensor) -> tuple[Tensor]:
        return (unet.latent_conv(down(x)),)

    first, second = _tiled(blocks, (x,), margin_before(block1, margin_before(block2, 0)), tile)
    _attend(attention, second)
    (z,) = _tiled(leave, (second,), margin_before(down, 0), tile)
    return z, (first, second)


def coarse_decode(unet: LatentUNet, z: Tensor, skips: Sequence[Tensor], tile: int | None) -> Tensor:
    """`unet.coarse_decode`: latent and the last level's skips -> map at 1/factor.

    Args:
        unet: the network.
        z: latent (B, embed_dim, h, w).
        skips: the two of `coarse_encode`.
        tile: side of the tiles in pixels of the map; None for the whole map.
    """
    level = unet.decoder[0]

    def join(z: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor]:
        return (level.join(unet.post_latent_conv(z), (first, second)),)

    block1, block2, attention, _ = level
    (x,) = _tiled(join, (z, *skips), margin_before(block1, margin_before(block2, 0)), tile)
    _attend(attention, x)
    return x


def empty_map(part: Tensor, height: int, width: int) -> Tensor:
    """Room for the map (B, C, height, width) that `part` is a part of, in channels-last memory."""
    return torch.empty(
        (*part.shape[:2], height, width),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last,
    )


def _tiled(
    function: Callable[..., tuple[Tensor, ...]], maps: Sequence[Tensor], halo: int, tile: int | None
) -> tuple[Tensor, ...]:
    """Maps that a function of maps of one size makes, computed tile by tile."""
    height, width = maps[0].shape[-2:]
    regions = tile_regions(height, width, tile or max(height, width), 1)
    if len(regions) == 1:
        return function(*maps)
    out: tuple[Tensor, ...] = ()
    for region in regions:
        wide = region.grown(halo, height, width)
        parts = function(*map(wide.cut, maps))
        out = out or tuple(empty_map(part, height, width) for part in parts)
        for target, part in zip(out, parts, strict=True):
            region.cut(target).copy_(region.within(wide).cut(part))
    return out


def _attend(layer: Residual, x: Tensor) -> None:
    """Do to a map what the layer, residual linear attention, makes of it."""
    norm, attention = layer.fn.norm, layer.fn.fn
    rows = max(1, (_GPU_BAND if x.is_cuda else _BAND) // x.shape[-1])
    to_q, *to_kv = attention.to_qkv.weight.chunk(3)
    context = _context(attention, norm, x.split(rows, dim=-2), torch.cat(to_kv))
    context = context.mul_(attention.scale / x[0, 0].numel()).transpose(-1, -2)
    for band in x.split(rows, dim=-2):
        (q,) = _heads(attention, F.conv2d(norm(band), to_q), 1)
        out = context @ q.softmax(dim=-2)
        band += attention.to_out(out.flatten(1, 2).unflatten(-1, band.shape[-2:])).to(band.dtype)


def _context(
    attention: LinearAttention, norm: LayerNorm, bands: Sequence[Tensor], to_kv: Tensor
) -> Tensor:
    """Sum over all pixels of softmax(k) v^T, (B, heads, dim_head, dim_head) float32."""
    highest = total = context = None
    for band in bands:
        k, v = _heads(attention, F.conv2d(norm(band), to_kv), 2)
        top = k.amax(dim=-1, keepdim=True)
        if highest is not None:
            top = torch.maximum(top, highest)
        k = (k - top).exp_()
        added, weight = k @ v.transpose(-1, -2), k.sum(dim=-1, keepdim=True)
        if highest is not None:
            fade = (highest - top).exp_()
            added, weight = added + context * fade, weight + total * fade
        highest, total, context = top, weight, added
    return context / total


def _heads(attention: LinearAttention, x: Tensor, kinds: int) -> tuple[Tensor, ...]:
    """(B, kinds * heads * dim_head, h, w) -> for each kind (B, heads, dim_head, h * w) float32."""
    return x.flatten(2).float().unflatten(1, (kinds, attention.heads, -1)).unbind(dim=1)
