"""`refusion average`: averages the weights of several runs, or the best ones of one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.common import Parser, show
from refusion.cli.options.plugins import add_plugin_option
from refusion.cli.options.values import finite_number, integer
from refusion.config.plugins import import_plugins
from refusion.errors import ConfigError
from refusion.files import check_replaceable

if TYPE_CHECKING:  # imports torch, which is too slow for --help
    from refusion.checkpoint import Checkpoint
    from refusion.training.snapshots import Snapshot

SOUPS = ("rank", "uniform", "greedy")


def run(argv: list[str]) -> int:
    """Write the average of the files named by the arguments.

    Returns:
        0 after the file was written.

    Raises:
        CheckpointError: a file is not a weights file, or the files have different networks.
        ConfigError: the number or the sum of the shares is wrong, the run keeps no snapshots, the
            output cannot be written, or a plug-in cannot be imported.
    """
    options = build_parser().parse_args(argv)
    run_folder = _run_folder(options)
    _check_output(Path(options.output))
    import_plugins(options.plugin)
    import torch

    from refusion.checkpoint import read_checkpoint, save_checkpoint
    from refusion.checkpoint.averaging import average_weights, averaged_info
    from refusion.weights import find_weights

    extra: dict[str, Any] = {}
    if run_folder is None:
        checkpoints = [read_checkpoint(find_weights(name)) for name in options.files]
        shares = options.shares or [1 / len(checkpoints)] * len(checkpoints)
    else:
        checkpoints, shares, extra = _of_run(run_folder, options)
    tensors = average_weights(checkpoints, shares)
    info = averaged_info(checkpoints, shares) | extra
    dtype = torch.float32 if options.full else torch.float16
    save_checkpoint(options.output, checkpoints[-1].model, tensors, info, dtype)
    show(options.output)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion average",
        description="Average the weights of several runs of one network, where one run continues "
        "another, or the best snapshots of one run (train.keep_best). The average can be better "
        "than each of them, and restoration takes the same time.",
        epilog="Exit code: 0 written, 2 wrong usage or files that do not fit each other.",
    )
    add = parser.add_argument
    add(
        "files", nargs="+", metavar="FILE",
        help=".safetensors files, or names of shipped models; or one folder of a run",
    )  # fmt: skip
    add("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write")
    add(
        "--shares", nargs="+", type=finite_number, metavar="SHARE",
        help="weight of each file; the sum is 1 (default: equal weights)",
    )  # fmt: skip
    add(
        "--best", type=integer, metavar="N",
        help="of a run folder: number of best snapshots to average (default: all that it keeps)",
    )  # fmt: skip
    add(
        "--soup", choices=SOUPS,
        help="of a run folder: weights that fall with the rank, such as 3, 2, 1 (rank, the "
        "default), equal weights (uniform), or equal weights without the snapshots that lower the "
        "score on the first validation set of the run (greedy, which measures each average)",
    )  # fmt: skip
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="device of --soup greedy")
    add_plugin_option(add)
    add("--full", action="store_true", help="write float32 (default: float16)")
    return parser


def _run_folder(options: argparse.Namespace) -> Path | None:
    """The run folder that the arguments name; None for weights files."""
    folders = [name for name in options.files if Path(name).is_dir()]
    if folders and len(options.files) > 1:
        raise ConfigError(
            f"{folders[0]}: is a folder; give one run folder alone, or only weights files"
        )
    if folders and options.shares:
        raise ConfigError("--shares: belongs to weights files; a run folder takes --soup")
    for name in ("best", "soup"):
        if not folders and getattr(options, name) is not None:
            raise ConfigError(f"--{name}: belongs to a run folder, got {options.files[0]}")
    return Path(folders[0]) if folders else None


def _check_output(path: Path) -> None:
    """Raise an error before the work if the file cannot be written."""
    there = next((folder for folder in path.absolute().parents if folder.exists()), Path("/"))
    if not there.is_dir():
        raise ConfigError(f"--output: {there}: is a file, expected a folder; choose another name")
    try:
        check_replaceable(path)
    except OSError as error:
        raise ConfigError(f"--output: {path}: {error.strerror}; choose another name") from error


def _of_run(
    folder: Path, options: argparse.Namespace
) -> tuple[list[Checkpoint], list[float], dict[str, Any]]:
    """Snapshots of a run, their weights, and what the averaged file says about its score."""
    from refusion.checkpoint import read_checkpoint
    from refusion.training.soup import best_snapshots, rank_shares

    snapshots = best_snapshots(folder, options.best)
    checkpoints = [read_checkpoint(one.path) for one in snapshots]
    count, extra = len(checkpoints), {}
    if options.soup == "greedy":
        shares, extra = _greedy(folder, snapshots, checkpoints, options.device)
    else:
        values = [1 / count] * count if options.soup == "uniform" else rank_shares(count)
        shares = dict(enumerate(values))
        for one, share in zip(snapshots, values, strict=True):
            show(f"step {one.step}: {one.metric} {one.score:.4f}, share {share:.3f}")
    order = sorted(shares, key=lambda index: snapshots[index].step)
    return [checkpoints[index] for index in order], [shares[index] for index in order], extra


def _greedy(
    folder: Path, snapshots: Sequence[Snapshot], checkpoints: Sequence[Checkpoint], device: str
) -> tuple[dict[int, float], dict[str, Any]]:
    """Weights of the snapshots of the greedy soup, and its score; shows all scores."""
    from refusion.config import load_config
    from refusion.devices.precision import choose_device
    from refusion.training.run_folder import CONFIG
    from refusion.training.soup import greedy_soup, validation_score

    config, metric = load_config(folder / CONFIG), snapshots[0].metric
    soup = greedy_soup(checkpoints, validation_score(config, metric, choose_device(device)))
    for index, (one, score) in enumerate(zip(snapshots, soup.tried, strict=True)):
        verb = "added" if index in soup.chosen else "left out"
        show(f"step {one.step}: {metric} of the average with it {score:.4f}, {verb}")
    show(f"{len(soup.chosen)} of {len(snapshots)} snapshots: {metric} {soup.score:.4f}")
    return dict.fromkeys(soup.chosen, 1 / len(soup.chosen)), {metric: soup.score}
