"""Weak changes are undone where they do not touch strong ones: `refusion.restorers`, hysteresis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refusion.runtime.likeness import shadow_likeness
from refusion.runtime.resizing import (
    enlarge,
    mean_cells,
    mean_pairs,
    window_maxima,
    window_means,
)


def keep_strong_changes(
    photo: np.ndarray, result: np.ndarray, change: Mapping[str, Any]
) -> np.ndarray:
    """The result where it differs strongly from the photo, and the photo elsewhere.

    Args:
        photo: (3, H, W) float in [0, 1].
        result: the photo after restoration, the same shape.
        change: part 'change' of the plan of the file: low and high limit of the log ratio of the
            brightness, the copy on which it is measured, and how unlike a shadow a region may be.
    """
    low, high = change["limits"]
    ratio = _log_ratio(photo, result, change)
    half = mean_pairs(ratio)
    kept = _connected(half > low, half > high).astype(np.float32)
    if "shadow" in change:
        copies = (
            mean_cells(image.clip(0, 1), ratio.shape[1:]).clip(change["dark"], None)
            for image in (photo, result)
        )
        maps = kept[0] > 0, half[0] > low, half[0]
        kept = shadow_likeness(*copies, *maps, change["shadow"])[None]
    near = enlarge(window_maxima(kept), ratio.shape[1:])
    part = ((ratio - low / 2) / (low / 2)).clip(0, 1)
    weight = window_means(near, 5, edge=False) * part**2 * (3 - 2 * part)
    return photo + (result - photo) * enlarge(weight, photo.shape[1:])


def _log_ratio(photo: np.ndarray, result: np.ndarray, change: Mapping[str, Any]) -> np.ndarray:
    """|log ratio| of the brightness, (1, h, w)."""
    scale = min(1.0, change["side"] / max(photo.shape[1:]))
    size = tuple(max(1, round(side * scale)) for side in photo.shape[1:])

    def brightness(image: np.ndarray) -> np.ndarray:
        cells = mean_cells(image.clip(0, 1).mean(0, keepdims=True), size)
        return window_means(cells, 2 * change["radius"] + 1, edge=False).clip(change["dark"], None)

    return np.abs(np.log(brightness(result) / brightness(photo)))


def _connected(weak: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """The 8-connected regions of `weak` that have a point of `strong`."""
    kept = strong & weak
    while True:
        grown = window_maxima(kept) & weak
        if (grown == kept).all():
            return kept
        kept = grown
