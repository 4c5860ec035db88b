"""Noise level of a photo, estimated from the photo alone: `refusion.images.noise_level`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refusion.runtime.samples import to_float


def estimate_noise_std(photo: np.ndarray, constants: Mapping[str, Any]) -> float:
    """Estimate the standard deviation of the noise of a photo.

    Args:
        photo: (3, H, W), integers or float in [0, 1].
        constants: part 'noise' of the plan of the file.

    Returns:
        The level in [0, 1] units; 0 for photos with a side below 4 pixels.
    """
    side = min(constants["block"], *photo.shape[1:]) // 4 * 4
    if side == 0:
        return 0.0
    blocks = _blocks(photo, side, constants["most_blocks"])
    halves = _means(blocks)
    count = max(1, round(constants["smooth_share"] * blocks.shape[1]))
    chosen = np.argsort(_roughness(blocks, halves, constants), kind="stable")[:count]
    fine = _level(blocks[:, chosen])
    if side < 8:
        return fine
    return max(fine, constants["coarse_share"] * 2 * _level(halves[:, chosen]))


def _blocks(photo: np.ndarray, side: int, most: int) -> np.ndarray:
    """Square blocks, evenly spread, (3, N, side, side) float32."""
    rows, columns = (length // side for length in photo.shape[1:])
    stride = side * math.ceil(math.sqrt(rows * columns / most))
    views = np.lib.stride_tricks.sliding_window_view(photo, (side, side), axis=(1, 2))
    return to_float(views[:, ::stride, ::stride].reshape(len(photo), -1, side, side))


def _means(blocks: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    pairs = (blocks[..., ::2, :] + blocks[..., 1::2, :]) / 2
    return (pairs[..., ::2] + pairs[..., 1::2]) / 2


def _level(blocks: np.ndarray) -> float:
    """Root of the mean variance of the channels, from the lower median over the blocks."""
    rows = blocks[..., :-2, :] - 2 * blocks[..., 1:-1, :] + blocks[..., 2:, :]
    second = (rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]) / 6
    spread = np.sort(np.abs(second).mean((-2, -1)) * math.sqrt(math.pi / 2), axis=1)
    return float(np.sqrt((spread[:, (spread.shape[1] - 1) // 2] ** 2).mean()))


def _roughness(blocks: np.ndarray, halves: np.ndarray, constants: Mapping[str, Any]) -> np.ndarray:
    """Deviation of the means of 4 x 4 pixels, and a penalty for clipped and flat blocks: (N,)."""
    clipped = ((blocks == 0) | (blocks == 1)).mean((0, 2, 3))
    deviation = np.sqrt(_means(halves).var((-2, -1)).mean(0))
    cells = blocks.reshape(*blocks.shape[:2], blocks.shape[2] // 4, 4, blocks.shape[3] // 4, 4)
    ranges = cells.max((3, 5)) - cells.min((3, 5))
    flat = (ranges < constants["flat"]).all(0).mean((-2, -1))
    is_frame = flat.mean() <= constants["most_flat"]
    return deviation + constants["penalty"] * (clipped + flat * is_frame)
