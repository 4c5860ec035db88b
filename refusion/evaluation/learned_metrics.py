"""Metrics that need files: learned weights, or statistics of pristine photos."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from torch import Tensor

    from refusion.evaluation.photos import Photos
    from refusion.metrics import Metric
    from refusion.metrics.fid import Fid


@dataclass(frozen=True)
class MetricFiles:
    """Files of the learned metrics; a metric without its files is not measured.

    Attributes:
        lpips: weights of AlexNet, and the linear layers of LPIPS.
        dists: weights of VGG16, and the weights of DISTS.
        niqe: statistics of pristine photos, an .npz file.
        fid: weights of the Inception network.
    """

    lpips: tuple[Path, Path] | None = None
    dists: tuple[Path, Path] | None = None
    niqe: Path | None = None
    fid: Path | None = None


def learned_metrics(files: MetricFiles, crop_border: int = 0) -> dict[str, Metric]:
    """The metrics of single photos whose files are given, by name.

    Args:
        files: of the metrics; `fid` is not used, as FID compares whole sets.
        crop_border: pixels cut off every side before measuring.

    Raises:
        CheckpointError: a file is missing or does not fit; the message says where to get it.
    """
    from refusion.metrics.dists import Dists
    from refusion.metrics.lpips import Lpips
    from refusion.metrics.niqe import Niqe

    metric = partial(_metric, crop_border=crop_border)
    chosen = []
    if files.lpips:
        stated = "AlexNet, version 0.1, RGB at full size"
        chosen.append(metric("lpips", Lpips(*files.lpips), stated))
    if files.dists:
        stated = "VGG16, RGB at full size, not shrunk to 256 px"
        chosen.append(metric("dists", Dists(*files.dists), stated))
    if files.niqe:
        stated = "no reference, Y (BT.601 luma), blocks of 96 px"
        chosen.append(metric("niqe", Niqe(files.niqe), stated, needs_target=False))
    return {one.name: one for one in chosen}


def _metric(
    name: str,
    function: Callable[..., Tensor],
    stated: str,
    *,
    crop_border: int,
    needs_target: bool = True,
) -> Metric:
    """A metric with values from 0; lower is better."""
    from refusion.metrics import Metric, stated_border

    return Metric(
        name,
        partial(function, crop_border=crop_border),
        higher_is_better=False,
        value_range=(0, math.inf),
        identity=0 if needs_target else math.nan,
        stated=f"{stated}, {stated_border(crop_border)}",
        needs_target=needs_target,
    )


def fid_network(files: MetricFiles) -> Fid | None:
    """The network of FID; None if its file is not given.

    Raises:
        CheckpointError: the file is missing or does not fit; the message says where to get it.
    """
    from refusion.metrics.fid import Fid

    return Fid(files.fid) if files.fid else None


def fid_of_set(fid: Fid, photos: Photos, files: Sequence[Sequence[Path]]) -> Mapping[str, float]:
    """FID of the inputs and of the results, each against the ground truth.

    Args:
        fid: the network.
        photos: the set.
        files: files of the result of each photo, in the order of the set; two of a stereo pair.

    Returns:
        The distances under 'input' and 'result'; empty without ground truth, or with fewer than
        two images.

    Raises:
        ImageError: a file cannot be read.
    """
    from refusion.images.io import read_image
    from refusion.images.resize import resize_like
    from refusion.metrics.fid import frechet_distance

    features: dict[str, list[Tensor]] = {"input": [], "result": [], "gt": []}
    for index, results in enumerate(files):
        item = photos[index]
        if "gt" not in item:
            return {}
        gt = item["gt"][None]
        images = {
            "gt": gt.split(3, dim=1),
            "input": resize_like(item["lq"][None], gt).split(3, dim=1),
            "result": [read_image(file).image[None] for file in results],
        }
        for key, views in images.items():
            features[key] += [fid.features(view) for view in views]
    if len(features["gt"]) < 2:
        return {}
    return {key: frechet_distance(features[key], features["gt"]) for key in ("input", "result")}
