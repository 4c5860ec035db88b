"""Exact tiling of a `LatentUNet`: the result of the whole photo at once, in bounded memory.

The fine levels are convolutions, so a tile with a halo of their reach gives what the whole photo
gives; the coarse level, whose attention sees everything, runs on the whole map at 1/factor, which
is small. The skips of the fine levels are computed again per tile while decoding: for a
24-megapixel photo they would take gigabytes. Where a tile meets the border of the padded photo its
crop ends there too, so that zero padding falls where it falls untiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.inference.receptive_field import halo_of
from refusion.nets import Latent, LatentUNet
from refusion.nets.layers import pad_to_multiple

Count = Callable[[int, int], None]
"""Called as `(done, total)` after each tile."""


@dataclass(frozen=True)
class Region:
    """Rectangle of a map: rows top..bottom - 1, columns left..right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, halo: int, height: int, width: int) -> Region:
        """This region with `halo` pixels more on each side, as far as the map goes."""
        return Region(
            max(0, self.top - halo),
            min(height, self.bottom + halo),
            max(0, self.left - halo),
            min(width, self.right + halo),
        )

    def within(self, outer: Region) -> Region:
        """This region in the coordinates of `outer`."""
        return Region(
            self.top - outer.top,
            self.bottom - outer.top,
            self.left - outer.left,
            self.right - outer.left,
        )

    def divided(self, factor: int) -> Region:
        """This region in a map `factor` times smaller."""
        return Region(*(edge // factor for edge in (self.top, self.bottom, self.left, self.right)))

    def cut(self, x: Tensor) -> Tensor:
        """View of this region of x (..., H, W)."""
        return x[..., self.top : self.bottom, self.left : self.right]


def tile_regions(height: int, width: int, tile: int, align: int) -> list[Region]:
    """Cut a map into tiles of nearly equal size, none larger than `tile`, row by row.

    Args:
        height: rows, a multiple of `align`.
        width: columns, a multiple of `align`.
        tile: largest side, rounded down to `align` but not below it.
        align: tiles start and end at multiples of this.

    Raises:
        ConfigError: tile < 1.

    >>> [(r.left, r.right) for r in tile_regions(8, 40, 16, 8)]
    [(0, 8), (8, 24), (24, 40)]
    """
    if tile < 1:
        raise ConfigError(f"tile: expected a side of at least 1 pixel, got {tile}")
    rows, columns = _edges(height, tile, align), _edges(width, tile, align)
    return [
        Region(top, bottom, left, right)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def encode_tiled(
    unet: LatentUNet, image: Tensor, tile: int | None, count: Count | None = None
) -> Latent:
    """`unet.encode` tile by tile.

    Args:
        unet: on any device.
        image: (B, in_ch, H, W) in [0, 1]; may lie on another device, tiles are moved.
        tile: side in pixels, any from 1; None for the whole image.
        count: told of every tile.

    Returns:
        The latent; of its skips all if the image is one tile, else only those of the coarse level
        (the last two).
    """
    photo = _PaddedPhoto(image, unet)
    regions = tile_regions(*photo.size, tile or max(photo.size), unet.factor)
    halo, fine, coarse = halo_of(unet).encode, (), None
    for region in _counted(regions, count):
        wide = region.grown(halo, *photo.size)
        part, skips = unet.fine_encode(photo.crop(wide))
        if len(regions) == 1:
            coarse, fine = part, skips
            continue
        if coarse is None:
            coarse = part.new_empty(*part.shape[:2], *(side // unet.factor for side in photo.size))
        del skips  # they would outlive the next tile's
        target, source = region.divided(unet.factor), region.within(wide).divided(unet.factor)
        target.cut(coarse).copy_(source.cut(part))
    z, pair = unet.coarse_encode(coarse)
    return Latent(z, (*fine, *pair), (image.shape[-2], image.shape[-1]))


def decode_tiled(
    unet: LatentUNet, image: Tensor, latent: Latent, tile: int | None, count: Count | None = None
) -> Tensor:
    """`unet.decode` tile by tile: a latent and the skips of the degraded image -> image.

    Args:
        unet: as encoded with.
        image: as encoded; fine skips that `latent` lacks are computed from it.
        latent: what `encode_tiled` returned, its z replaced by the restored one.
        tile: side in pixels, any from 1; None for the whole image. Need not be the encoder's.
        count: told of every tile.

    Returns:
        (B, out_ch, H, W) float32 on the device of `image`, not clamped.
    """
    height, width = latent.size
    out = image.new_empty(len(image), unet.final_conv.out_channels, height, width).float()
    if len(latent.skips) > 2 and (tile is None or tile >= max(height, width)):
        return out.copy_(unet.decode(latent.z, latent.skips, latent.size))
    photo = _PaddedPhoto(image, unet)
    regions = tile_regions(*photo.size, tile or max(photo.size), unet.factor)
    regions = [region for region in regions if region.top < height and region.left < width]
    halo, coarse = halo_of(unet).decode, unet.coarse_decode(latent.z, latent.skips[-2:])
    for region in _counted(regions, count):
        wide = region.grown(halo, *photo.size)
        _, skips = unet.fine_encode(photo.crop(wide))
        part = unet.fine_decode(wide.divided(unet.factor).cut(coarse), skips)
        del skips
        # The slice of `out` ends at the photo; what lies beyond is padding.
        target = region.cut(out)
        target.copy_(region.within(wide).cut(part)[..., : target.shape[-2], : target.shape[-1]])
    return out


class _PaddedPhoto:
    """The image as `LatentUNet.encode` pads it, cut without ever making the padded copy."""

    def __init__(self, image: Tensor, unet: LatentUNet) -> None:
        self.image = image
        weight = unet.init_conv.weight
        self.device, self.dtype = weight.device, weight.dtype
        # Padding repeats rows and columns, so padding their numbers says which.
        self.rows = _padded_indices(image.shape[-2], unet.multiple).to(image.device)
        self.columns = _padded_indices(image.shape[-1], unet.multiple).to(image.device)
        self.size = len(self.rows), len(self.columns)

    def crop(self, region: Region) -> Tensor:
        """(B, C, rows, columns) on the network's device, in its format."""
        height, width = self.image.shape[-2:]
        if region.bottom <= height and region.right <= width:
            part = region.cut(self.image)
        else:
            rows = self.rows[region.top : region.bottom]
            part = self.image[..., rows, :][..., self.columns[region.left : region.right]]
        return part.to(self.device, self.dtype)


def _padded_indices(length: int, multiple: int) -> Tensor:
    numbers = torch.arange(length, dtype=torch.float32).view(1, 1, length, 1)
    return pad_to_multiple(numbers, multiple, "reflect")[0, 0, :, 0].long()


def _edges(length: int, tile: int, align: int) -> list[int]:
    cells = length // align
    pieces = -(-cells // max(1, tile // align))
    return [cells * i // pieces * align for i in range(pieces + 1)]


def _counted(regions: list[Region], count: Count | None) -> Iterator[Region]:
    for done, region in enumerate(regions, start=1):
        yield region
        if count is not None:
            count(done, len(regions))
