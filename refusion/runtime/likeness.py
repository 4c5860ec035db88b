"""Whether changed regions look like removed shadows: `refusion.restorers`, shadow_likeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refusion.runtime.resizing import window_maxima


def shadow_likeness(
    photo: np.ndarray,
    result: np.ndarray,
    kept: np.ndarray,
    weak: np.ndarray,
    shadow: Mapping[str, Any],
) -> np.ndarray:
    """Weights (h, w) of the changed regions of reduced copies.

    Args:
        photo: (C, h, w), above 0.
        result: the restored photo, the same shape.
        kept: (h, w), bool: the regions that are judged.
        weak: (h, w), bool: all changed pixels.
        shadow: part 'shadow' of the part 'change' of the plan.
    """
    logs = np.log(np.stack([photo, result]))
    low, high = shadow["limits"]
    labels, weights = _labels(kept), kept.astype(np.float32)
    for label in np.unique(labels[kept]):
        region = labels == label
        if region.sum() < shadow["least"]:
            continue
        unlike = _unevenness(logs, region) + _remaining_contrast(logs, region, weak, shadow)
        weights[region] = min(1.0, max(0.0, (high - unlike) / (high - low)))
    return weights


def _labels(mask: np.ndarray) -> np.ndarray:
    labels = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    while True:
        grown = window_maxima(labels) * mask
        if (grown == labels).all():
            return labels
        labels = grown


def _unevenness(logs: np.ndarray, region: np.ndarray) -> float:
    change = (logs[1] - logs[0])[:, region]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(change.std(1).mean() / abs(change.mean()))


def _remaining_contrast(
    logs: np.ndarray, region: np.ndarray, weak: np.ndarray, shadow: Mapping[str, Any]
) -> float:
    near, far = shadow["ring"]
    outside = _grown(region, far) & ~_grown(region, near) & ~weak
    inside = _grown(~region, far) & ~_grown(~region, near) & region
    inside = inside if inside.any() else region
    if not outside.any():
        return 0.0
    grey = logs.mean(1)
    before, after = grey[:, inside].mean(1) - grey[:, outside].mean(1)
    is_lighter = (grey[1] - grey[0])[region].sum() > 0
    return float(max(0.0, -after if is_lighter else after) / (abs(before) + shadow["floor"]))


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    for _ in range(reach):
        mask = window_maxima(mask)
    return mask
