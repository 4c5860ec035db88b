"""How much a changed region of a photo looks like a shadow that was removed.

A shadow takes a nearly constant part of the light. So the change of a region is even, its bright
parts become as bright as those of the surroundings, and the change removes edges of the photo. A
dark thing that was taken for a shadow changes unevenly, stays dark, and gets new edges.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

AROUND = (1, 6)  # pixels from a region: which pixels beside it are its surroundings
BRIGHT = 0.9  # quantile of the brightness that stands for the bright parts
DARKEST = 0.5  # of the change: where more light is missing, dark things are equally likely
REACH = 3  # pixels: edges of the change are inside of a region or so far from it
LEAST = 12  # pixels; smaller regions are not judged
CLEAR = (0.25, 0.55)  # peak of |log ratio|: weak and clear changes
WEAKNESS = 0.8  # of the weakest changes: a faint shadow is taken for one only if all else fits
EPS = 1e-6  # of sums of gradients: a change without edges has the ratio 1


def shadow_likeness(
    photo: Tensor,
    result: Tensor,
    kept: Tensor,
    weak: Tensor,
    ratio: Tensor,
    limits: tuple[float, float],
) -> Tensor:
    """Weights of the changed regions of reduced copies.

    With d the logarithm of the ratio of both copies, a region is unlike a removed shadow by the
    sum of four numbers:
    its unevenness std(d) / |mean(d)|, the mean over the channels of the deviation over the pixels;
    the light that is missing: how far the bright parts (quantile `BRIGHT`) of the result in the
    region are below those of the photo around it, relative to |mean(d)|, from 0 to `DARKEST`;
    the edges that are left: the mean gradient of the result relative to that of the photo, both
    weighted by the gradient of d. Gradients are those of the mean logarithm of the channels;
    its weakness, `WEAKNESS` to 0 where its largest ratio grows through `CLEAR`.
    Regions of fewer than `LEAST` pixels get weights from 0 to 1 through `CLEAR`.

    Args:
        photo: (B, C, H, W), float, above 0.
        result: the restored photo, the same shape.
        kept: (B, 1, h, w), half the size, rounded up: 1.0 in the regions that are judged, else 0.0.
        weak: the same with all changed pixels.
        ratio: |log ratio| of the brightness of both copies, the shape of `kept`.
        limits: the weight of a region falls from 1 to 0 where the sum grows from the first limit
            to the second one.

    Returns:
        `kept` times the weight of each region.
    """
    copies = torch.stack([photo, result])
    greys = copies.log().mean(2)
    halves = F.avg_pool2d(copies.flatten(0, 1), 2, ceil_mode=True).log()
    halves = halves.unflatten(0, copies.shape[:2])
    judged = [
        _judged(greys[:, number], halves[:, number], maps[:, 0], limits)
        for number, maps in enumerate(torch.stack([kept, weak, ratio], 1))
    ]
    return torch.stack(judged)[:, None]


def _judged(greys: Tensor, logs: Tensor, maps: Tensor, limits: tuple[float, float]) -> Tensor:
    """Weights (h, w) of the regions; `greys` (2, H, W), `logs` (2, C, h, w), `maps` (3, h, w)."""
    (kept, weak, ratio), (low, high) = maps, limits
    labels, weights = _labels(kept), kept.clone()
    slopes = [_slope(image) for image in (*greys, greys[1] - greys[0])]
    for label in labels.unique().tolist():
        region = (labels == label).to(kept.dtype)
        if label == 0:
            continue
        weakness = _weakness(ratio, region)
        unlike = _unevenness(logs, region) + _missing_light(logs, region, weak)
        unlike += _edges_left(slopes, region) + WEAKNESS * weakness
        weight = min(1.0, max(0.0, (high - unlike) / (high - low)))
        weights -= (weakness if region.sum() < LEAST else 1 - weight) * region
    return weights


def _labels(mask: Tensor) -> Tensor:
    """A number above 0 for each 8-connected region of the mask (h, w), the same for its pixels."""
    labels = torch.arange(1, mask.numel() + 1, device=mask.device, dtype=mask.dtype)
    labels = labels.view_as(mask) * mask
    while True:
        grown = _grown(labels, 1) * mask
        if torch.equal(grown, labels):
            return labels
        labels = grown


def _slope(image: Tensor) -> Tensor:
    """Size of the gradient of an image (H, W)."""
    down = F.pad(image[1:] - image[:-1], (0, 0, 0, 1))
    right = F.pad(image[:, 1:] - image[:, :-1], (0, 1))
    return (down.square() + right.square()).sqrt()


def _unevenness(logs: Tensor, region: Tensor) -> float:
    change, count = (logs[1] - logs[0]) * region, region.sum()
    mean = change.sum((1, 2)) / count
    deviation = ((change - mean[:, None, None] * region).square().sum((1, 2)) / count).sqrt()
    return float(deviation.mean() / mean.mean().abs())


def _missing_light(logs: Tensor, region: Tensor, weak: Tensor) -> float:
    """0 with too few surroundings."""
    near, far = AROUND
    around = (_grown(region, far) - _grown(region, near)) * (1 - weak) > 0
    if around.sum() < LEAST:
        return 0.0
    (before, after), inside = logs.mean(1), region > 0
    missing = before[around].quantile(BRIGHT) - after[inside].quantile(BRIGHT)
    relative = float(missing / (after - before)[inside].mean().abs())
    return min(DARKEST, max(0.0, relative))


def _edges_left(slopes: list[Tensor], region: Tensor) -> float:
    before, after, change = slopes
    near = _grown(region, REACH).repeat_interleave(2, 0).repeat_interleave(2, 1)
    change = change * near[: change.shape[0], : change.shape[1]]
    return float(((change * after).sum() + EPS) / ((change * before).sum() + EPS))


def _weakness(ratio: Tensor, region: Tensor) -> float:
    """1 for a change with a peak below `CLEAR`, 0 above it."""
    weak, clear = CLEAR
    return min(1.0, max(0.0, (clear - float((ratio * region).max())) / (clear - weak)))


def _grown(mask: Tensor, reach: int) -> Tensor:
    """Maxima (h, w) over squares that reach so many pixels in each direction."""
    return F.max_pool2d(mask[None, None], 2 * reach + 1, 1, reach)[0, 0]
