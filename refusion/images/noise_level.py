"""Noise level of a photo: the standard deviation of its noise, estimated from the photo alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refusion.images.samples import to_float

BLOCK = 16  # side in pixels of the blocks
MOST_BLOCKS = 2**14  # blocks of a photo that are looked at: 4 megapixels
SMOOTH_SHARE = 0.05  # share of the blocks, the smoothest, that the estimate uses
COARSE_SHARE = 0.7  # weight of the estimate from means of 2x2 pixels
NEGLIGIBLE = 1 / 255  # noise level that no one sees, in [0, 1] units; smaller ones mean no noise
FLAT = 1.5 / 255  # largest range of the values in 4x4 pixels without any noise, also after JPEG
MOST_FLAT = 0.5  # share of flat pixels up to which they count as a frame or a caption
PENALTY = 3.0  # roughness of blocks that are not used; values of photos are in [0, 1]


def estimate_noise_std(image: Tensor) -> Tensor:
    """Estimate the standard deviation of the noise in photos.

    A product of second differences removes the photo and keeps the noise (Immerkaer, 1996), if it
    is applied to smooth parts. The photo is cut into blocks. The estimate of a block is the mean
    absolute result, scaled to the standard deviation of white Gaussian noise; the estimate of a
    channel is the median over the smoothest blocks. Blocks with clipped pixels (exactly 0 or 1)
    count as rough, and so do blocks with parts of one value, such as a frame, unless these are the
    larger part of the photo. Of a large photo only some blocks, spread evenly, are used.

    Demosaicing and JPEG remove the finest part of the noise. So the same is computed from the means
    of 2x2 pixels, and the larger estimate counts. The estimate from means has a lower weight,
    because it contains more texture: white noise of at least 5 levels does not depend on it, and
    the level of noise with a grain of 2 pixels is about 0.7 of its standard deviation.

    Args:
        image: photos (B, C, H, W), float in [0, 1] (noise may exceed it), or uint8 or uint16 over
            their full range; any size and device.

    Returns:
        Root of the mean variance of the channels, float32 (B,) in [0, 1] units, on the device of
        `image`; 0 for photos with a side below 4 pixels.
    """
    side = min(BLOCK, *image.shape[-2:]) // 4 * 4
    if side == 0:
        return torch.zeros(len(image), device=image.device)
    blocks = _blocks(image, side)
    halves = _means(blocks)
    count = max(1, round(SMOOTH_SHARE * blocks.shape[2]))
    chosen = _roughness(blocks, halves).topk(count, dim=1, largest=False).indices
    fine = _level(blocks, chosen)
    if side < 8:
        return fine
    return torch.maximum(fine, COARSE_SHARE * 2 * _level(halves, chosen))


def _blocks(image: Tensor, side: int) -> Tensor:
    """At most `MOST_BLOCKS` square blocks of photos (B, C, H, W): (B, C, N, side, side) float32."""
    rows, columns = (length // side for length in image.shape[-2:])
    stride = side * math.ceil(math.sqrt(rows * columns / MOST_BLOCKS))
    blocks = image.unfold(2, side, stride).unfold(3, side, stride)
    return to_float(blocks.flatten(2, 3).contiguous())


def _means(blocks: Tensor) -> Tensor:
    """Means of 2x2 pixels, (..., n, n) -> (..., n / 2, n / 2)."""
    return blocks.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2)).mean(dim=(-3, -1))


def _level(blocks: Tensor, chosen: Tensor) -> Tensor:
    """Noise level (B,) of the blocks (B, C, N, n, n) with the indices `chosen` (B, K)."""
    spread = _noise_filter(blocks).abs().mean(dim=(-2, -1)) * math.sqrt(math.pi / 2)
    found = spread.gather(2, chosen[:, None].expand(-1, spread.shape[1], -1))
    return found.median(dim=2).values.square().mean(dim=1).sqrt()


def _noise_filter(blocks: Tensor) -> Tensor:
    """Product of second differences along both axes, (..., n, n) -> (..., n - 2, n - 2).

    White noise keeps its standard deviation; linear and most smooth changes vanish.
    """
    rows = blocks[..., :-2, :] - 2 * blocks[..., 1:-1, :] + blocks[..., 2:, :]
    return (rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]) / 6


def _roughness(blocks: Tensor, halves: Tensor) -> Tensor:
    """Deviation of the means of 4x4 pixels, and a penalty for clipped and flat blocks: (B, N).

    The noise in these means is almost independent of the result of `_noise_filter`, so choosing
    smooth blocks does not choose blocks with little noise.
    """
    clipped = ((blocks == 0) | (blocks == 1)).float().mean(dim=(1, 3, 4))
    deviation = _means(halves).var(dim=(-2, -1), correction=0).mean(dim=1).sqrt()
    cells = blocks.unflatten(-2, (-1, 4)).unflatten(-1, (-1, 4))
    ranges = cells.amax(dim=(-3, -1)) - cells.amin(dim=(-3, -1))
    flat = (ranges < FLAT).all(dim=1).float().mean(dim=(-2, -1))
    is_frame = flat.mean(dim=1, keepdim=True) <= MOST_FLAT
    return deviation + PENALTY * (clipped + flat * is_frame)
