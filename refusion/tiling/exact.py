"""Exact tiling of a `LatentUNet`: the same result as without tiles, in bounded memory.

The fine levels are convolutions, so a tile with a halo of the size of their receptive field gives
the same result as the whole photo. The coarse level, whose attention depends on all pixels, runs on
the whole map at 1/factor, see `coarse`. The skips of the fine levels are computed again for each
tile while decoding, because those of a 24-megapixel photo would take gigabytes. At the border of
the padded photo the crop of a tile has no halo, so the zero padding of the convolutions is at the
same place as without tiles. Photos of 8 or 16 bits are converted to floats tile by tile.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from refusion.tiling.regions import Region, TileProgress, tile_regions

_BAND = 64  # rows of the latent whose guide is converted to floats at a time


def encode_tiled(
    unet: LatentUNet,
    image: Tensor,
    tile: int | None,
    progress: TileProgress | None = None,
    guide: Tensor | None = None,
) -> Latent:
    """`unet.encode` tile by tile.

    Args:
        unet: the network, on any device.
        image: (B, out_ch, H, W), float in [0, 1], or uint8 or uint16 over their full range. It may
            be on another device; each tile is moved to that of the network.
        tile: side of the tiles in pixels, >= 1; None for the whole image.
        progress: called as `(done, total)` after each tile; None for no report.
        guide: condition per pixel for a network with guide channels, (B, in_ch - out_ch, H, W),
            with one of the dtypes of `image`.

    Returns:
        The latent. If the image is one tile it has all skips, otherwise only the last two, those of
        the coarse level.

    Raises:
        ConfigError: `tile` is below 1.
    """
    photo = _PaddedPhoto(unet, image, guide)
    regions = tile_regions(*photo.size, tile or max(photo.size), unet.factor)
    halo, fine, coarse = halo_of(unet).encode, (), None
    for region in _with_progress(regions, progress):
        wide = region.grown(halo, *photo.size)
        part, skips = unet.fine_encode(photo.crop(wide))
        if len(regions) == 1:
            coarse, fine = part, skips
            continue
        if coarse is None:
            coarse = empty_map(part, *(side // unet.factor for side in photo.size))
        del skips  # otherwise they stay in memory during the next tile
        target, source = region.divided(unet.factor), region.within(wide).divided(unet.factor)
        target.cut(coarse).copy_(source.cut(part))
    z, pair = coarse_encode(unet, coarse, _coarse_tile(tile))
    return Latent(z, (*fine, *pair), (image.shape[-2], image.shape[-1]))


def decode_tiled(
    unet: LatentUNet,
    image: Tensor,
    latent: Latent,
    tile: int | None,
    progress: TileProgress | None = None,
    guide: Tensor | None = None,
) -> Tensor:
    """`unet.decode` tile by tile: a latent and the skips of the degraded image -> image.

    Args:
        unet: the network of `encode_tiled`.
        image: the image of `encode_tiled`; skips that `latent` does not contain are computed from
            it.
        latent: result of `encode_tiled`, with its z replaced by the restored latent.
        tile: side of the tiles in pixels, >= 1; None for the whole image. It may differ from that
            of `encode_tiled`.
        progress: called as `(done, total)` after each tile; None for no report.
        guide: the guide of `encode_tiled`.

    Returns:
        (B, out_ch, H, W) on the device of `image`: float32, not clamped. For an integer image it
        has the dtype of the image.

    Raises:
        ConfigError: `tile` is below 1.
        FloatingPointError: a value is not finite and `image` has an integer dtype, which has no
            such values.
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
    for region in _with_progress(regions, progress):
        wide = region.grown(halo, *photo.size)
        skips = fine or unet.fine_encode(photo.crop(wide))[1]
        if unet.image_skip:  # float32, because 16-bit floats have too few tones for the photo
            skips = (photo.crop(wide, torch.float32), *skips[1:])
        part = unet.fine_decode(wide.divided(unet.factor).cut(coarse), skips)
        del skips
        # The slice of `out` ends at the border of the photo; the rest of the tile is padding.
        target = region.cut(out)
        part = region.within(wide).cut(part)[..., : target.shape[-2], : target.shape[-1]]
        if is_integer(out):
            _check_finite(part)
        store(part.to(target.device), target)
    return out


def latent_guide(unet: LatentUNet, guide: Tensor) -> Tensor:
    """The guide for the noise network, which works on the latent: the mean over each latent pixel.

    Args:
        unet: the network that encodes the photo.
        guide: (B, G, H, W), float in [0, 1], or uint8 or uint16 over their full range.

    Returns:
        (B, G, h, w) with the size of the latent, and the device and dtype of the network.
    """
    photo = _PaddedPhoto(unet, guide)
    height, width = photo.size
    bands = range(0, height, _BAND * unet.factor)
    regions = (Region(top, min(top + bands.step, height), 0, width) for top in bands)
    return torch.cat([F.avg_pool2d(photo.crop(region), unet.factor) for region in regions], dim=-2)


class _PaddedPhoto:
    """Crops of a photo and its guide, padded as in `LatentUNet.encode`, without a padded copy."""

    def __init__(self, unet: LatentUNet, image: Tensor, guide: Tensor | None = None) -> None:
        self.maps = [image] if guide is None else [image, guide]
        weight = unet.init_conv.weight
        self.device, self.dtype = weight.device, weight.dtype
        # Padding repeats rows and columns. The padded row numbers give the source of each row.
        self.rows = _padded_indices(image.shape[-2], unet.multiple)
        self.columns = _padded_indices(image.shape[-1], unet.multiple)
        self.size = len(self.rows), len(self.columns)

    def crop(self, region: Region, dtype: torch.dtype | None = None) -> Tensor:
        """(B, C, rows, columns) on the device of the network, in its dtype or the given one."""
        rows = self.rows[region.top : region.bottom]
        columns = self.columns[region.left : region.right]
        # The smallest part of the photo that contains the sources of all pixels of the crop.
        top, left = int(rows.min()), int(columns.min())
        inside = Region(top, int(rows.max()) + 1, left, int(columns.max()) + 1)
        crops = [to_float(inside.cut(each).to(self.device)) for each in self.maps]
        part = (torch.cat(crops, dim=1) if len(crops) > 1 else crops[0]).to(dtype or self.dtype)
        if not _is_run(rows):
            part = part[..., rows - top, :]
        if not _is_run(columns):
            part = part[..., columns - left]
        return part.contiguous(memory_format=torch.channels_last)


def _padded_indices(length: int, multiple: int) -> Tensor:
    numbers = torch.arange(length, dtype=torch.float32).view(1, 1, length, 1)
    return pad_to_multiple(numbers, multiple, "reflect")[0, 0, :, 0].long()


def _is_run(numbers: Tensor) -> bool:
    """Whether padded indices, which never rise by more than 1, are n, n + 1, n + 2, ..."""
    return int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1


def _coarse_tile(tile: int | None) -> int | None:
    """Side of a tile of the coarse map, which has several times the channels of the finest map."""
    return tile and max(8, tile // 4)


def _check_finite(part: Tensor) -> None:
    low, high = part.aminmax()
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise FloatingPointError("values that are not finite")


def _with_progress(regions: list[Region], progress: TileProgress | None) -> Iterator[Region]:
    """Iterate over tiles and report each one when it is done.

    The process keeps freed memory during a row of tiles and returns it to the system after the row.
    """
    numbered = enumerate(regions, start=1)
    for _, row in groupby(numbered, key=lambda pair: pair[1].top):
        with reuse_freed_memory():
            for done, region in row:
                yield region
                if progress is not None:
                    progress(done, len(regions))
