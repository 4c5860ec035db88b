"""`refusion average`: averages the weights of several runs into one file."""

from __future__ import annotations

import argparse

from refusion.cli.common import Parser, show
from refusion.cli.options.plugins import add_plugin_option
from refusion.config.plugins import import_plugins


def run(argv: list[str]) -> int:
    """Write the average of the files named by the arguments.

    Returns:
        0 after the file was written.

    Raises:
        CheckpointError: a file is not a weights file, or the files have different networks.
        ConfigError: the number or the sum of the shares is wrong, or a plug-in cannot be imported.
    """
    options = build_parser().parse_args(argv)
    import_plugins(options.plugin)
    import torch

    from refusion.checkpoint import find_weights, read_checkpoint, save_checkpoint
    from refusion.checkpoint.averaging import average_weights, averaged_info

    checkpoints = [read_checkpoint(find_weights(name)) for name in options.files]
    shares = options.shares or [1 / len(checkpoints)] * len(checkpoints)
    tensors = average_weights(checkpoints, shares)
    info = averaged_info(checkpoints, shares)
    dtype = torch.float32 if options.full else torch.float16
    save_checkpoint(options.output, checkpoints[-1].model, tensors, info, dtype)
    show(options.output)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion average",
        description="Average the weights of several runs of one network, where one run continues "
        "another. The average can be better than each run, and restoration takes the same time.",
        epilog="Exit code: 0 written, 2 wrong usage or files that do not fit each other.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help=".safetensors files, or names of shipped models")
    add("--output", required=True, metavar="FILE", help="the .safetensors file to write")
    add(
        "--shares", nargs="+", type=float, metavar="SHARE",
        help="weight of each file; the sum is 1 (default: equal weights)",
    )  # fmt: skip
    add_plugin_option(add)
    add("--full", action="store_true", help="write float32 (default: float16)")
    return parser
