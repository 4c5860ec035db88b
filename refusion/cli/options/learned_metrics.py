"""Options of the metrics that need files: learned weights, or statistics of pristine photos."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from torch import Tensor

    from refusion.evaluation.scoring import Photos
    from refusion.metrics import Metric
    from refusion.metrics.fid import Fid


def add_learned_metrics(add: Callable[..., argparse.Action]) -> None:
    """Add the options; each names files, as nothing is downloaded."""
    add("--lpips", nargs=2, type=Path, metavar=("ALEXNET", "LIN"), help="LPIPS with these weights")
    add("--dists", nargs=2, type=Path, metavar=("VGG", "WEIGHTS"), help="DISTS with these weights")
    add("--niqe", type=Path, metavar="FILE.npz", help="NIQE, which needs no ground truth")
    add(
        "--fid",
        type=Path,
        metavar="INCEPTION",
        help="FID between results and ground truth (needs --output)",
    )


def learned_metrics(options: argparse.Namespace) -> dict[str, Metric]:
    """The metrics whose files are given, by name.

    Raises:
        CheckpointError: a file is missing or does not fit; says where to get it.
    """
    from refusion.metrics.dists import Dists
    from refusion.metrics.lpips import Lpips
    from refusion.metrics.niqe import Niqe

    chosen = []
    if options.lpips:
        stated = "AlexNet, version 0.1, RGB at full size"
        chosen.append(_metric("lpips", Lpips(*options.lpips), stated, options))
    if options.dists:
        stated = "VGG16, RGB at full size, not shrunk to 256 px"
        chosen.append(_metric("dists", Dists(*options.dists), stated, options))
    if options.niqe:
        stated = "no reference, Y (BT.601 luma), blocks of 96 px"
        chosen.append(_metric("niqe", Niqe(options.niqe), stated, options, needs_target=False))
    return {metric.name: metric for metric in chosen}


def _metric(
    name: str,
    function: Callable[..., Tensor],
    stated: str,
    options: argparse.Namespace,
    *,
    needs_target: bool = True,
) -> Metric:
    """A metric of which less is better, with the border that the options cut."""
    from refusion.metrics import Metric, stated_border

    return Metric(
        name,
        partial(function, crop_border=options.crop_border),
        higher_is_better=False,
        value_range=(0, math.inf),
        identity=0 if needs_target else math.nan,
        stated=f"{stated}, {stated_border(options.crop_border)}",
        needs_target=needs_target,
    )


def fid_network(options: argparse.Namespace) -> Fid | None:
    """The network of --fid, before there is anything to measure; None if it is not asked for.

    Raises:
        CheckpointError: the file is missing or does not fit; says where to get it.
    """
    from refusion.metrics.fid import Fid

    return Fid(options.fid) if options.fid else None


def fid_of_set(fid: Fid, photos: Photos, files: Sequence[Sequence[Path]]) -> Mapping[str, float]:
    """FID of the inputs and of the results to the ground truth.

    Args:
        fid: the network.
        photos: the set.
        files: of the result of each photo, in the order of the set.

    Returns:
        The distances by 'input' and 'result'; empty without ground truth, and of a single image.
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


def check_learned_metrics(options: argparse.Namespace) -> None:
    """Refuse FID without the files it reads.

    Raises:
        ConfigError: --output is missing.
    """
    if options.fid and not options.output:
        raise ConfigError("--fid: needs --output, whose pictures it compares")
