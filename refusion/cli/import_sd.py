"""`refusion import-sd`: a Stable Diffusion in one published file made a folder for `--sd`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refusion.cli.options.model import warnings_on_stderr


def run(argv: list[str]) -> int:
    """Write the folder that the arguments name.

    Returns:
        0: it was written.

    Raises:
        RefusionError: the file cannot be read or does not fit.
    """
    options = build_parser().parse_args(argv)
    from refusion.stable_diffusion.import_ldm import import_ldm

    with warnings_on_stderr():
        unused = import_ldm(
            options.checkpoint,
            options.like,
            options.output,
            prediction=options.prediction,
            zero_snr=options.zero_snr,
        )
    shown = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
    sys.stdout.write(f"{len(unused)} tensors of no use{f' ({shown})' if unused else ''}\n")
    sys.stdout.write(f"{options.output}\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="refusion import-sd",
        description="Make a folder in the layout of diffusers of a Stable Diffusion 2.1 in one "
        "file, such as v2-1_512-ema-pruned or DiffBIR v2.1's. Nothing in the file is "
        "run; every tensor must have its place.",
        epilog="Exit code: 0 done, 2 wrong usage or files that do not fit, with the reason.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="FILE", help="weights (.ckpt, .pth, .pt, .safetensors)")
    add("--like", type=Path, required=True, metavar="DIR", help="a Stable Diffusion 2.1 in the "
        "layout of diffusers, whose sizes, tokenizer and settings are taken")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        help="what the network says (default: as in --like; DiffBIR v2.1: v_prediction)",
    )
    add("--zero-snr", action="store_true", help="trained with zero terminal SNR, as DiffBIR v2.1's")
    return parser
