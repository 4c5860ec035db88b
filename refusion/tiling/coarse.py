"""The coarse level of a `LatentUNet` on a whole map, in bounded memory.

The residual blocks of the level are convolutions and run in tiles with a halo, as in the fine
levels. The linear attention depends on the map only through one matrix per head, a sum over all
pixels (Katharopoulos 2020). This sum is computed band by band; the softmax over pixels uses a
running maximum. Then the attention is applied band by band. It is computed in float32, so that the
result depends on the size of the bands only by rounding.
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

_BAND = 2**12  # pixels of a band on a CPU: the intermediate results fit its cache
_GPU_BAND = 2**18  # pixels of a band on a GPU: enough to use all its cores


def coarse_encode(
    unet: LatentUNet, x: Tensor, tile: int | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`unet.coarse_encode`: map at 1/factor -> latent and the two skips of the last level.

    Args:
        unet: the network.
        x: (B, C, h, w), with the device and dtype of the network.
        tile: side of the tiles in pixels of the map, >= 1; None for the whole map.

    Returns:
        Latent (B, embed_dim, h, w), and the two skips.
    """
    block1, block2, attention, down = unet.encoder[-1]

    def blocks(x: Tensor) -> tuple[Tensor, Tensor]:
        first = block1(x)
        return first, block2(first)

    def to_latent(x: Tensor) -> tuple[Tensor]:
        return (unet.latent_conv(down(x)),)

    first, second = _tiled(blocks, (x,), margin_before(block1, margin_before(block2, 0)), tile)
    _attend(attention, second)
    (z,) = _tiled(to_latent, (second,), margin_before(down, 0), tile)
    return z, (first, second)


def coarse_decode(unet: LatentUNet, z: Tensor, skips: Sequence[Tensor], tile: int | None) -> Tensor:
    """`unet.coarse_decode`: latent and the last level's skips -> map at 1/factor.

    Args:
        unet: the network.
        z: latent (B, embed_dim, h, w).
        skips: the two skips of `coarse_encode`.
        tile: side of the tiles in pixels of the map, >= 1; None for the whole map.

    Returns:
        (B, C, h, w).
    """
    level = unet.decoder[0]

    def join(z: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor]:
        return (level.join(unet.post_latent_conv(z), (first, second)),)

    block1, block2, attention, _ = level
    (x,) = _tiled(join, (z, *skips), margin_before(block1, margin_before(block2, 0)), tile)
    _attend(attention, x)
    return x


def empty_map(part: Tensor, height: int, width: int) -> Tensor:
    """Allocate a map (B, C, height, width) in channels-last memory, without initial values.

    Args:
        part: tile of the map, (B, C, h, w); gives B, C, dtype and device.
        height: rows of the map.
        width: columns of the map.
    """
    return torch.empty(
        (*part.shape[:2], height, width),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last,
    )


def _tiled(
    function: Callable[..., tuple[Tensor, ...]], maps: Sequence[Tensor], halo: int, tile: int | None
) -> tuple[Tensor, ...]:
    """The results of `function(*maps)`, computed tile by tile; all maps have the same size."""
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
    """Apply a layer, residual linear attention, to a map in place."""
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
    maximum = total = context = None
    for band in bands:
        k, v = _heads(attention, F.conv2d(norm(band), to_kv), 2)
        new_maximum = k.amax(dim=-1, keepdim=True)
        if maximum is not None:
            new_maximum = torch.maximum(new_maximum, maximum)
        k = (k - new_maximum).exp_()
        new_context, new_total = k @ v.transpose(-1, -2), k.sum(dim=-1, keepdim=True)
        if maximum is not None:
            scale = (maximum - new_maximum).exp_()
            new_context, new_total = new_context + context * scale, new_total + total * scale
        maximum, total, context = new_maximum, new_total, new_context
    return context / total


def _heads(attention: LinearAttention, x: Tensor, kinds: int) -> tuple[Tensor, ...]:
    """Split into heads: (B, kinds * heads * dim_head, h, w) -> kinds x (B, heads, dim_head, h * w).

    `kinds` is the number of quantities (q, k or v) in x. The results are float32.
    """
    return x.flatten(2).float().unflatten(1, (kinds, attention.heads, -1)).unbind(dim=1)
