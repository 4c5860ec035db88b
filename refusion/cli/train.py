"""`refusion train`: trains the experiment of a YAML file."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.common import EXIT_USER_ERROR, Parser, show
from refusion.cli.log_lines import LineFormatter
from refusion.cli.options.plugins import add_plugin_option
from refusion.cli.options.values import positive, whole_between
from refusion.cli.process_age import process_age
from refusion.devices.rank import is_main_process
from refusion.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from refusion.config import RunConfig
    from refusion.devices.processes import World

MOST_PAIRS = 1000  # of --dump-pairs


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion train",
        description="Train the experiment of a YAML file. The same command continues an "
        "interrupted run exactly from its last checkpoint.",
    )
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="e.g. options/toy.yml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, e.g. --set train.steps=1000; may be repeated",
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="wall time of the whole run with validation, saving and export, as "
        "--set train.minutes=M; the same command with more minutes continues",
    )
    parser.add_argument(
        "--no-lpips",
        action="append_const",
        dest="set",
        const="osediff.lpips=null",
        help="train stage osediff without LPIPS, if its weights are not available",
    )
    add_plugin_option(parser.add_argument)
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="folder that contains the run folders"
    )
    parser.add_argument(
        "--export", metavar="FILE", help="after training also write the weights here, in float16"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the options with all defaults, the number of parameters, the operations of a "
        "step and the memory, then exit; nothing is trained, and nothing but the pairs of "
        "--dump-pairs is written",
    )
    parser.add_argument(
        "--dump-pairs",
        type=_count,
        default=0,
        metavar="N",
        help="first write the first N training pairs, degraded beside clean, as PNG files to the "
        "folder 'pairs' of the run",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def run(argv: list[str] | None = None) -> int:
    """Train the experiment named by the arguments.

    Returns:
        0 after the training is complete, 2 if another process of the training failed; that process
        shows the message.

    Raises:
        RefusionError: the config or a path is wrong, a sample cannot be made, or the loss is not
            finite.
    """
    arguments = sys.argv[1:] if argv is None else argv
    begun = time.monotonic() - process_age(arguments)
    options = build_parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(message)s"))
    level = logging.INFO if is_main_process() else logging.ERROR
    logging.basicConfig(level=level, handlers=[handler])
    config = _load(options)
    # Imported after parsing, because PyTorch is too slow for --help.
    from refusion.training import join_processes

    with join_processes(options.device) as (world, device):
        if world.is_main:
            _preview(options, config, device, world)
        if options.dry_run:
            return 0
        return _train(options, config, world, device, begun)


def _load(options: argparse.Namespace) -> RunConfig:
    """Config of the run; checks all paths."""
    from refusion.config import load_config
    from refusion.config.plugins import import_plugins
    from refusion.training.paths import check_paths

    import_plugins(options.plugin)
    minutes = [] if options.minutes is None else [f"train.minutes={options.minutes}"]
    config = load_config(options.opt, [*options.set, *minutes])
    config = replace(config, plugins=tuple(dict.fromkeys((*config.plugins, *options.plugin))))
    check_paths(config)
    if options.export and not Path(options.export).absolute().parent.is_dir():
        raise ConfigError(f"--export: no folder '{Path(options.export).parent}'; create it first")
    return config


def _preview(
    options: argparse.Namespace, config: RunConfig, device: torch.device, world: World
) -> None:
    """Write the first pairs and describe the run, as far as the options ask for it."""
    from refusion.training.preview import describe, dump_pairs

    if options.dump_pairs:
        show(str(dump_pairs(config, Path(options.runs) / config.name, options.dump_pairs)))
    if options.dry_run:
        show(*describe(config, device, world))


def _train(
    options: argparse.Namespace,
    config: RunConfig,
    world: World,
    device: torch.device,
    begun: float,
) -> int:
    """Train and export; returns the exit code."""
    import torch
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from refusion.training import Trainer
    from refusion.training.budget import duration
    from refusion.training.failures import OtherProcessError

    trainer = Trainer(config, device=device, runs=options.runs, world=world, begun=begun)
    is_silent = options.quiet or not world.is_main
    with (
        tqdm(total=config.train.steps, unit="step", disable=is_silent) as bar,
        logging_redirect_tqdm(),
    ):

        def report(step: int, total: int | None, terms: dict[str, float]) -> None:
            bar.update(step - bar.n)
            loss = {"loss": f"{terms['total']:.4f}"} if terms else {}
            left = {} if config.train.minutes is None else {"left": duration(trainer.left_s())}
            bar.set_postfix(loss | left, refresh=False)

        try:
            trainer.train(report)
        except OtherProcessError:
            return EXIT_USER_ERROR
    if world.is_main:
        if options.export:
            trainer.export(options.export, torch.float16)
        show(str(trainer.model_file))
    return 0


def _count(text: str) -> int:
    """A number of pairs, at least 1."""
    return whole_between(text, 1, MOST_PAIRS)
