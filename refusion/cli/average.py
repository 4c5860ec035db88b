"""`refusion average`: one weights file of several runs."""

from __future__ import annotations

import argparse
import sys


def run(argv: list[str]) -> int:
    """Write the average of the files that the arguments name.

    Returns:
        0: it was written.

    Raises:
        CheckpointError: a file is no weights file, or they do not fit each other.
        ConfigError: the shares do not fit the files.
    """
    options = build_parser().parse_args(argv)
    import torch

    from refusion.checkpoint import find_weights, read_checkpoint, save_checkpoint
    from refusion.checkpoint.averaging import average_weights, averaged_info

    checkpoints = [read_checkpoint(find_weights(name)) for name in options.files]
    shares = options.shares or [1 / len(checkpoints)] * len(checkpoints)
    tensors = average_weights(checkpoints, shares)
    info = averaged_info(checkpoints, shares)
    dtype = torch.float32 if options.full else torch.float16
    save_checkpoint(options.output, checkpoints[-1].model, tensors, info, dtype)
    sys.stdout.write(f"{options.output}\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="refusion average",
        description="Average the weights of several runs of one network, one trained on from "
        "another: what they do well comes together, at no cost when restoring.",
        epilog="Exit code: 0 written, 2 wrong usage or files that do not fit.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help=".safetensors files, or shipped tasks")
    add("--output", required=True, metavar="FILE", help="the .safetensors file to write")
    add(
        "--shares", nargs="+", type=float, metavar="SHARE",
        help="of each file, with the sum 1 (default: equal)",
    )  # fmt: skip
    add("--full", action="store_true", help="keep 32 bits; without, the file is float16")
    return parser
