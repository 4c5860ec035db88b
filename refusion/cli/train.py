"""`refusion train`: trains the experiment of a YAML file."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from refusion.cli.common import EXIT_USER_ERROR, Parser, show
from refusion.cli.log_lines import LineFormatter
from refusion.cli.options.plugins import add_plugin_option
from refusion.errors import ConfigError


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
    options = build_parser().parse_args(argv)
    # Imported after parsing, because PyTorch is too slow for --help.
    import torch
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from refusion.config import load_config
    from refusion.config.plugins import import_plugins
    from refusion.training import Trainer, join_processes
    from refusion.training.failures import OtherProcessError
    from refusion.training.paths import check_paths

    import_plugins(options.plugin)
    config = load_config(options.opt, options.set)
    config = replace(config, plugins=tuple(dict.fromkeys((*config.plugins, *options.plugin))))
    check_paths(config)
    if options.export and not Path(options.export).absolute().parent.is_dir():
        raise ConfigError(f"--export: no folder '{Path(options.export).parent}'; create it first")
    with join_processes(options.device) as (world, device):
        level = logging.INFO if world.is_main else logging.ERROR
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LineFormatter("%(asctime)s %(message)s"))
        logging.basicConfig(level=level, handlers=[handler])
        trainer = Trainer(config, device=device, runs=options.runs, world=world)
        is_silent = options.quiet or not world.is_main
        with (
            tqdm(total=config.train.steps, unit="step", disable=is_silent) as bar,
            logging_redirect_tqdm(),
        ):

            def report(step: int, total: int, terms: dict[str, float]) -> None:
                bar.update(step - bar.n)
                bar.set_postfix(loss=f"{terms['total']:.4f}", refresh=False)

            try:
                trainer.train(report)
            except OtherProcessError:
                return EXIT_USER_ERROR
        if world.is_main:
            if options.export:
                trainer.export(options.export, torch.float16)
            show(str(trainer.model_file))
    return 0
