"""Exact tiling of a `LatentUNet`: the result of the whole photo at once, in bounded memory.

The fine levels are convolutions, so a tile with a halo of their reach gives what the whole photo
gives; the coarse level, whose attention sees everything, runs on the whole map at 1/factor, see
`coarse`. The skips of the fine levels are computed again per tile while decoding: for a
24-megapixel photo they would take gigabytes. Where a tile meets the border of the padded photo its
crop ends there too, so that zero padding falls where it falls untiled. Photos in 8 or 16 bits
become floats tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.devices.allocator import reuse_freed_memory
from refusion.images.samples import is_integer, store, to_float
from refusion.nets import Latent, LatentUNet
from refusion.nets.layers import pad_to_multiple
from refusion.tiling.coarse import coarse_decode, coarse_encode, empty_map
from refusion.tiling.receptive_field import halo_of
from refusion.tiling.regions import Region, tile_regions

Count = Callable[[int, int], None]
"""Called as `(done, total)` after each tile."""


_BAND = 64  # rows of a latent whose guide is floats at a time


def encode_tiled(
    unet: LatentUNet,
    image: Tensor,
    tile: int | None,
    count: Count | None = None,
    guide: Tensor | None = None,
) -> Latent:
    """`unet.encode` tile by tile.

    Args:
        unet: on any device.
        image: (B, out_ch, H, W), float in [0, 1], or uint8 or uint16 over their full range; may
            lie on another device, tiles are moved.
        tile: side in pixels, any from 1; None for the whole image.
        count: told of every tile.
        guide: what a network with guide channels is told of every pixel, (B, in_ch - out_ch, H, W)
            of the same kinds as `image`.

    Returns:
        The latent; of its skips all if the image is one tile, else only those of the coarse level
        (the last two).
    """
    photo = _PaddedPhoto(unet, image, guide)
    regions = tile_regions(*photo.size, tile or max(photo.size), unet.factor)
    halo, fine, coarse = halo_of(unet).encode, (), None
    for region in _counted(regions, count):
        wide = region.grown(halo, *photo.size)
        part, skips = unet.fine_encode(photo.crop(wide))
        if len(regions) == 1:
            coarse, fine = part, skips
            continue
        if coarse is None:
            coarse = empty_map(part, *(side // unet.factor for side in photo.size))
        del skips  # they would outlive the next tile's
        target, source = region.divided(unet.factor), region.within(wide).divided(unet.factor)
        target.cut(coarse).copy_(source.cut(part))
    z, pair = coarse_encode(unet, coarse, _coarse_tile(tile))
    return Latent(z, (*fine, *pair), (image.shape[-2], image.shape[-1]))


def decode_tiled(
    unet: LatentUNet,
    image: Tensor,
    latent: Latent,
    tile: int | None,
    count: Count | None = None,
    guide: Tensor | None = None,
) -> Tensor:
    """`unet.decode` tile by tile: a latent and the skips of the degraded image -> image.

    Args:
        unet: as encoded with.
        image: as encoded; fine skips that `latent` lacks are computed from it.
        latent: what `encode_tiled` returned, its z replaced by the restored one.
        tile: side in pixels, any from 1; None for the whole image. Need not be the encoder's.
        count: told of every tile.
        guide: as encoded with.

    Returns:
        (B, out_ch, H, W) on the device of `image`: float32, not clamped, or, of an integer image,
        integers of its kind.

    Raises:
        FloatingPointError: a value is not finite where `image` is of integers, which cannot say so.
    """
    height, width = latent.size
    photo = _PaddedPhoto(unet, image, guide)
    regions = tile_regions(*photo.size, tile or max(photo.size), unet.factor)
    fine = latent.skips[:-2] if len(regions) == 1 else ()
    regions = [region for region in regions if region.top < height and region.left < width]
    coarse = coarse_decode(unet, latent.z, latent.skips[-2:], _coarse_tile(tile))
    kind = image.dtype if is_integer(image) else torch.float32
    out = torch.empty(len(image), unet.out_ch, height, width, dtype=kind, device=image.device)
    halo = halo_of(unet).decode
    for region in _counted(regions, count):
        wide = region.grown(halo, *photo.size)
        skips = fine or unet.fine_encode(photo.crop(wide))[1]
        if unet.image_skip:  # in a narrow format the photo would lose its finest tones
            skips = (photo.crop(wide, torch.float32), *skips[1:])
        part = unet.fine_decode(wide.divided(unet.factor).cut(coarse), skips)
        del skips
        # The slice of `out` ends at the photo; what lies beyond is padding.
        target = region.cut(out)
        part = region.within(wide).cut(part)[..., : target.shape[-2], : target.shape[-1]]
        if is_integer(out):
            _check_finite(part)
        store(part.to(target.device), target)
    return out


def latent_guide(unet: LatentUNet, guide: Tensor) -> Tensor:
    """The guide for the network that works on the latent: means over each latent pixel.

    Args:
        unet: the network of the latent.
        guide: (B, G, H, W), float in [0, 1], or uint8 or uint16 over their full range.

    Returns:
        (B, G, h, w) on the network's device, in its format, of the size of the latent.
    """
    photo = _PaddedPhoto(unet, guide)
    height, width = photo.size
    bands = range(0, height, _BAND * unet.factor)
    regions = (Region(top, min(top + bands.step, height), 0, width) for top in bands)
    return torch.cat([F.avg_pool2d(photo.crop(region), unet.factor) for region in regions], dim=-2)


class _PaddedPhoto:
    """Maps of one photo as `LatentUNet.encode` pads them, cut without ever making a padded copy."""

    def __init__(self, unet: LatentUNet, image: Tensor, guide: Tensor | None = None) -> None:
        self.maps = [image] if guide is None else [image, guide]
        weight = unet.init_conv.weight
        self.device, self.dtype = weight.device, weight.dtype
        # Padding repeats rows and columns, so padding their numbers says which.
        self.rows = _padded_indices(image.shape[-2], unet.multiple)
        self.columns = _padded_indices(image.shape[-1], unet.multiple)
        self.size = len(self.rows), len(self.columns)

    def crop(self, region: Region, dtype: torch.dtype | None = None) -> Tensor:
        """(B, C, rows, columns) on the network's device, in its format or another one."""
        rows = self.rows[region.top : region.bottom]
        columns = self.columns[region.left : region.right]
        # The smallest part of the photo that holds them, padding included.
        top, left = int(rows.min()), int(columns.min())
        inside = Region(top, int(rows.max()) + 1, left, int(columns.max()) + 1)
        cut = [to_float(inside.cut(each).to(self.device)) for each in self.maps]
        part = (torch.cat(cut, dim=1) if len(cut) > 1 else cut[0]).to(dtype or self.dtype)
        if part.shape[-2] < len(rows):
            part = part[..., rows - top, :]
        if part.shape[-1] < len(columns):
            part = part[..., columns - left]
        return part.contiguous(memory_format=torch.channels_last)


def _padded_indices(length: int, multiple: int) -> Tensor:
    numbers = torch.arange(length, dtype=torch.float32).view(1, 1, length, 1)
    return pad_to_multiple(numbers, multiple, "reflect")[0, 0, :, 0].long()


def _coarse_tile(tile: int | None) -> int | None:
    """Side of a tile of the coarse map, which has several times the channels of the finest."""
    return tile and max(8, tile // 4)


def _check_finite(part: Tensor) -> None:
    low, high = part.aminmax()
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise FloatingPointError("values that are not finite")


def _counted(regions: list[Region], count: Count | None) -> Iterator[Region]:
    """The tiles, told to `count` when done; memory is kept within a row, handed back after it."""
    numbered = enumerate(regions, start=1)
    for _, row in groupby(numbered, key=lambda pair: pair[1].top):
        with reuse_freed_memory():
            for done, region in row:
                yield region
                if count is not None:
                    count(done, len(regions))
