"""Options of the metrics that need files: learned weights, or statistics of pristine photos."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from refusion.errors import ConfigError
from refusion.evaluation.learned_metrics import MetricFiles


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


def metric_files(options: argparse.Namespace) -> MetricFiles:
    """The files that the options name.

    Raises:
        ConfigError: --fid is given without --output, whose files it reads.
    """
    if options.fid and not options.output:
        raise ConfigError("--fid: needs --output, as it compares the files written there")
    lpips, dists = (tuple(pair) if pair else None for pair in (options.lpips, options.dists))
    return MetricFiles(lpips, dists, options.niqe, options.fid)
