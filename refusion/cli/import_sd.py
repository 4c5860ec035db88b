"""`refusion import-sd`: converts a Stable Diffusion in one file to a folder for `--sd`."""

from __future__ import annotations

import argparse
from pathlib import Path

from refusion.cli.common import Parser, show
from refusion.cli.options.model import warnings_on_stderr


def run(argv: list[str]) -> int:
    """Convert the file named by the arguments.

    Returns:
        0 after the folder was written.

    Raises:
        RefusionError: the file cannot be read, or its tensors do not fit.
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
    show(f"{len(unused)} tensors not used{f' ({shown})' if unused else ''}", str(options.output))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion import-sd",
        description="Convert a Stable Diffusion 2.1 in one file, for example v2-1_512-ema-pruned "
        "or the file of DiffBIR v2.1, to a folder in the layout of diffusers. No code from the "
        "file is run; all names and shapes of its tensors are checked.",
        epilog="Exit code: 0 done, 2 wrong usage or files that do not fit, with the reason.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="FILE", help="weights (.ckpt, .pth, .pt, .safetensors)")
    add("--like", type=Path, required=True, metavar="DIR", help="folder of a Stable Diffusion "
        "2.1 in the layout of diffusers, which gives sizes, tokenizer and settings")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        help="quantity that the network predicts (default: as in --like; DiffBIR v2.1: "
        "v_prediction)",
    )
    add("--zero-snr", action="store_true", help="trained with zero terminal SNR (DiffBIR v2.1)")
    return parser
