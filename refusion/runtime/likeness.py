"""Whether changed regions look like removed shadows: `refusion.restorers`, shadow_likeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refusion.runtime.resizing import mean_pairs, window_maxima


def shadow_likeness(
    photo: np.ndarray,
    result: np.ndarray,
    kept: np.ndarray,
    weak: np.ndarray,
    ratio: np.ndarray,
    shadow: Mapping[str, Any],
) -> np.ndarray:
    """Weights (h, w) of the changed regions of reduced copies.

    Args:
        photo: (C, H, W), above 0.
        result: the restored photo, the same shape.
        kept: (h, w), bool, half the size, rounded up: the regions that are judged.
        weak: (h, w), bool: all changed pixels.
        ratio: (h, w): |log ratio| of the brightness of both copies.
        shadow: part 'shadow' of the part 'change' of the plan.
    """
    before, after = (np.log(copy).mean(0) for copy in (photo, result))
    slopes = [_slope(grey) for grey in (before, after, after - before)]
    logs = np.log(np.stack([mean_pairs(photo), mean_pairs(result)]))
    low, high = shadow["limits"]
    labels, weights = _labels(kept), kept.astype(np.float32)
    for label in np.unique(labels[kept]):
        region = labels == label
        weakness = _weakness(ratio, region, shadow)
        if region.sum() < shadow["least"]:
            weights[region] = 1 - weakness
            continue
        unlike = _unevenness(logs, region) + _missing_light(logs, region, weak, shadow)
        unlike += _edges_left(slopes, region, shadow) + shadow["weakness"] * weakness
        weights[region] = min(1.0, max(0.0, (high - unlike) / (high - low)))
    return weights


def _labels(mask: np.ndarray) -> np.ndarray:
    labels = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    while True:
        grown = window_maxima(labels) * mask
        if (grown == labels).all():
            return labels
        labels = grown


def _slope(image: np.ndarray) -> np.ndarray:
    down = np.diff(image, axis=0, append=image[-1:])
    right = np.diff(image, axis=1, append=image[:, -1:])
    return np.hypot(down, right)


def _unevenness(logs: np.ndarray, region: np.ndarray) -> float:
    change = (logs[1] - logs[0])[:, region]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(change.std(1).mean() / abs(change.mean()))


def _missing_light(
    logs: np.ndarray, region: np.ndarray, weak: np.ndarray, shadow: Mapping[str, Any]
) -> float:
    near, far = shadow["around"]
    around = _grown(region, far) & ~_grown(region, near) & ~weak
    if around.sum() < shadow["least"]:
        return 0.0
    before, after = logs.mean(1)
    bright = [np.quantile(part, shadow["bright"]) for part in (before[around], after[region])]
    with np.errstate(divide="ignore", invalid="ignore"):
        missing = (bright[0] - bright[1]) / abs((after - before)[region].mean())
    return min(shadow["darkest"], max(0.0, float(missing)))


def _edges_left(
    slopes: Sequence[np.ndarray], region: np.ndarray, shadow: Mapping[str, Any]
) -> float:
    before, after, change = slopes
    near = _grown(region, shadow["reach"]).repeat(2, 0).repeat(2, 1)
    change = change * near[: change.shape[0], : change.shape[1]]
    left, there = ((change * slope).sum() + shadow["eps"] for slope in (after, before))
    return float(left / there)


def _weakness(ratio: np.ndarray, region: np.ndarray, shadow: Mapping[str, Any]) -> float:
    weak, clear = shadow["clear"]
    return min(1.0, max(0.0, (clear - float(ratio[region].max())) / (clear - weak)))


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    for _ in range(reach):
        mask = window_maxima(mask)
    return mask
