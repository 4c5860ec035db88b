"""`refusion export`: writes the networks of a weights file as ONNX files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.common import Parser, show
from refusion.cli.options.model import check_sampler, count, warnings_on_stderr
from refusion.cli.options.plugins import add_plugin_option
from refusion.config.plugins import import_plugins
from refusion.weights import find_weights

if TYPE_CHECKING:  # imports torch, which is too slow for --help
    from refusion.export import Exported

_OPSET = 18


def run(argv: list[str]) -> int:
    """Export the model named by the arguments.

    Returns:
        0 after the files were written.

    Raises:
        RefusionError: the weights cannot be read or exported, an option does not suit the model,
            or a package is missing.
    """
    parser = build_parser()
    options = parser.parse_args(argv)
    if (options.model is None) == (options.task is None):
        parser.error("name one model: a weights file, or --task NAME")
    if options.output.suffix.lower() != ".onnx":
        parser.error(f"-o/--output: '{options.output}': expected a name that ends in .onnx")
    weights = find_weights(options.model or options.task)
    import_plugins(options.plugin)
    from refusion.checkpoint import read_checkpoint
    from refusion.export import export_model

    check_sampler(options.sampler)
    storage = "linked" if options.link_weights else "float16" if options.fp16 else "float32"
    with warnings_on_stderr():
        written = export_model(
            read_checkpoint(weights),
            options.output,
            opset=options.opset,
            storage=storage,
            steps=options.steps,
            sampler=options.sampler,
        )
    _report(written)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion export",
        description="Write a model as an ONNX file with variable height and width, for other "
        "programs and for refusion-lite, which restores photos without PyTorch. The result is "
        "compared with PyTorch on three sizes. A model with a latent U-Net becomes five files.",
        epilog="Exit code: 0 written, 2 wrong usage or a model that cannot be exported. Needs the "
        "package onnx: pip install 'refusion[onnx]'.",
    )
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        metavar="FILE",
        help="a .safetensors file, or the name of a shipped model",
    )
    add("--task", metavar="NAME", help="a shipped model, such as dehaze")
    add("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    add(
        "--opset",
        type=count,
        default=_OPSET,
        metavar="N",
        help=f"version of the operators of ONNX, 17 to 20 (default: {_OPSET})",
    )
    stored = parser.add_mutually_exclusive_group().add_argument
    stored(
        "--fp16",
        action="store_true",
        help="store the weights in 16 bits: half the size; they are computed with in float32",
    )
    stored(
        "--link-weights",
        action="store_true",
        help="store no weights but their places in the weights file, which must lie in the same "
        "folder",
    )
    add("--steps", type=count, metavar="N", help="sampling steps (default: set by the model)")
    add("--sampler", metavar="NAME", help="sampler (default: set by the model)")
    add_plugin_option(add)
    return parser


def _report(written: Sequence[Exported]) -> None:
    for each in written:
        inputs, outputs = ", ".join(each.inputs), ", ".join(each.outputs)
        show(f"{each.path}: {each.part} ({inputs} -> {outputs})")
        for size in each.differences:
            at = f"{size.width}x{size.height}"
            show(f"    {at}: largest difference from PyTorch {size.largest:.2g}, "
                 f"largest value {size.value:.3g}")  # fmt: skip
        if not each.differences:
            show("    not compared with PyTorch: the package onnxruntime is missing")
    if not any(each.restores for each in written):
        show("refusion-lite cannot restore photos with this model; other programs can run it")
