"""Image quality metrics: training, tests and `measure` report each entry of `METRICS`.

`measure` takes images as NumPy arrays or tensors. A single metric is a function of batches. Metrics
with learned weights (`lpips`, `dists`, `fid`, `niqe`) are imported from their modules. The package
imports `images`, `errors` and `config.tables` only; `measure` looks up `METRICS` with
`config.tables.find_table`, which imports the allowed plug-ins. A new metric is one file with a
function `(image, target, *, crop_border=0) -> (B,)` and one line here, or
`METRICS["name"] = Metric("name", ...)` in a plug-in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from refusion.arguments import check_arguments, is_whole
from refusion.config.tables import find_table
from refusion.errors import ConfigError, ImageError, short
from refusion.images.arrays import Image, to_batch, unit_range
from refusion.metrics.ciede2000 import ciede2000
from refusion.metrics.metric import CHANNELS, Metric
from refusion.metrics.psnr import psnr
from refusion.metrics.ssim import ssim

__all__ = [
    "METRICS",
    "Metric",
    "ciede2000",
    "measure",
    "psnr",
    "reported_metrics",
    "score_pair",
    "ssim",
]

METRICS: dict[str, Metric] = {
    "psnr": Metric(
        "psnr",
        psnr,
        higher_is_better=True,
        value_range=(0, math.inf),
        identity=math.inf,
        unit="dB",
        channels=("rgb", "y"),
    ),
    "ssim": Metric(
        "ssim",
        ssim,
        higher_is_better=True,
        value_range=(-1, 1),
        identity=1,
        unit="Gaussian window of 11 px, sigma 1.5",
        channels=("rgb", "y"),
    ),
}

_CHANNELS = {"rgb": "RGB", "y": "Y (BT.601 luma, 16 to 235 of 255)"}


def reported_metrics(crop_border: int = 0) -> dict[str, Metric]:
    """Every metric of `METRICS`, and CIEDE2000, each with a statement of how it is taken.

    PSNR and SSIM are there twice: on RGB, and on luma as `psnr_y` and `ssim_y`.

    Args:
        crop_border: pixels left out on every side, >= 0.

    Raises:
        ImageError: the border is not such a number.

    >>> reported_metrics(4)["psnr_y"].stated
    'dB, Y (BT.601 luma, 16 to 235 of 255), data range 1 (255 levels), border of 4 px cut'
    """
    if not is_whole(crop_border) or crop_border < 0:
        raise ImageError(f"crop_border: expected 0 <= border in pixels, got {short(crop_border)}")
    metrics = {}
    for channel, end in zip(CHANNELS, ("", "_y"), strict=True):
        for name, metric in find_table("metrics").items():
            if not isinstance(metric, Metric):
                raise ConfigError(
                    f"METRICS['{name}']: expected a Metric, got {type(metric).__name__}; write "
                    f"Metric('{name}', function, higher_is_better=..., value_range=(0, 1), "
                    "identity=...)"
                )
            if channel in metric.channels:
                metrics[name + end] = _reported(metric, name + end, channel, crop_border)
    return metrics | {
        "ciede2000": Metric(
            "ciede2000",
            partial(ciede2000, crop_border=crop_border),
            higher_is_better=False,
            value_range=(0, math.inf),
            identity=0,
            stated=f"mean colour difference, sRGB, D65, {stated_border(crop_border)}",
        )
    }


def _reported(metric: Metric, name: str, channel: str, crop_border: int) -> Metric:
    """A metric of one channel, with the border cut, under the name that it has in tables."""
    chosen = {"channel": channel} if len(metric.channels) > 1 else {}
    facts = (metric.unit, _CHANNELS[channel], "data range 1 (255 levels)")
    return replace(
        metric,
        name=name,
        function=partial(metric.function, crop_border=crop_border, **chosen),
        stated=", ".join(fact for fact in (*facts, stated_border(crop_border)) if fact),
    )


def stated_border(crop_border: int) -> str:
    """What a statement says of the pixels cut off every side."""
    return f"border of {crop_border} px cut" if crop_border else "no border cut"


def measure(image: Image, target: Image, *, crop_border: int = 0) -> dict[str, float]:
    """All of `reported_metrics`, of an image or the mean over a batch.

    Args:
        image: NumPy (H, W, 3), or torch (3, H, W) or (B, 3, H, W), RGB: uint8, uint16, or float,
            which is clamped to [0, 1]. Rounded to 8 bits, as files are.
        target: the ground truth, the same size; not rounded. Kind and dtype may differ.
        crop_border: pixels left out on every side, >= 0.

    Returns:
        `psnr` and `psnr_y` in dB for a data range of 1, `ssim` and `ssim_y` in [-1, 1] (Wang et al.
        2004), `ciede2000` >= 0 (Sharma et al. 2005); `*_y` is BT.601 luma in studio range.

    Raises:
        ImageError: these are no such images, or they cannot be compared.

    >>> import numpy as np
    >>> gray = np.full((16, 16, 3), 100, np.uint8)
    >>> {name: round(value, 3) for name, value in measure(gray + np.uint8(10), gray).items()}
    {'psnr': 28.131, 'ssim': 0.995, 'psnr_y': 29.453, 'ssim_y': 0.997, 'ciede2000': 3.811}
    """
    images, targets = (
        unit_range(to_batch(name, one)) for name, one in (("image", image), ("target", target))
    )
    if images.shape != targets.shape:
        raise ImageError(
            f"target: expected the image's shape {tuple(images.shape)}, got {tuple(targets.shape)}"
        )
    return score_pair(images, targets, reported_metrics(crop_border))


def score_pair(
    image: Tensor, target: Tensor | None, metrics: Mapping[str, Metric] = METRICS
) -> dict[str, float]:
    """Every metric of one image, as its 8-bit file would measure; of a stereo pair the mean.

    Rounding before measuring is what published numbers do, and lets anyone check ours on the files.

    Args:
        image: float RGB, shape (1, 3, H, W), or (1, 6, H, W) for two views; clamped to [0, 1] and
            rounded to 256 levels here.
        target: float RGB in [0, 1], the same shape and device; taken as it is. None
            for no-reference metrics only.
        metrics: what to compute, by name.

    Returns:
        Values by the names of `metrics`.

    Raises:
        ImageError: the images cannot be compared.

    >>> import torch
    >>> gray = torch.full((1, 3, 8, 8), 0.2511)  # 64.03 of 255 levels
    >>> round(score_pair(gray, torch.zeros(1, 3, 8, 8))["psnr"], 4)  # 20 log10(255 / 64)
    12.0072
    """
    check_arguments(score_pair, locals())
    image = _views(image.float().clamp(0, 1).mul_(255).round_().div_(255))
    pair = (image,) if target is None else (image, _views(target))
    return {
        name: float(metric.function(*(pair if metric.needs_target else pair[:1])).mean())
        for name, metric in metrics.items()
        if target is not None or not metric.needs_target
    }


def _views(image: Tensor) -> Tensor:
    """The views of a stereo pair (1, 6, H, W) as a batch of two; other images as they are."""
    if image.ndim == 4 and image.shape[1] == 6:
        return image.unflatten(1, (2, 3)).flatten(0, 1)
    return image
