"""`refusion export`: writes a model as ONNX files, or as a package for darktable."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.common import Parser, show
from refusion.cli.options.model import check_sampler, warnings_on_stderr
from refusion.cli.options.plugins import add_plugin_option
from refusion.cli.options.values import count, positive
from refusion.config.plugins import import_plugins
from refusion.weights import find_weights

if TYPE_CHECKING:  # imports torch, which is too slow for --help
    from refusion.export import Difference, Exported, Package

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
    _check_output(parser, options)
    weights = find_weights(options.model or options.task)
    import_plugins(options.plugin)
    from refusion.checkpoint import read_checkpoint
    from refusion.export import export_dtmodel, export_model

    check_sampler(options.sampler)
    storage = "linked" if options.link_weights else "float16" if options.fp16 else "float32"
    how = {"opset": options.opset, "storage": storage}
    how |= {"steps": options.steps, "sampler": options.sampler}
    level = None if options.noise_level is None else options.noise_level / 255
    with warnings_on_stderr():
        checkpoint = read_checkpoint(weights)
        if options.dtmodel:
            force = options.force
            package = export_dtmodel(
                checkpoint, options.output, noise_std=level, overwrite=force, **how
            )
            _report_package(package)
        else:
            _report(export_model(checkpoint, options.output, **how))
    return 0


def _check_output(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse options that do not suit the kind of file."""
    given, suffix = options.output.suffix.lower(), ".dtmodel" if options.dtmodel else ".onnx"
    if given != suffix:
        hint = "; for a package add --dtmodel" if given == ".dtmodel" else ""
        name = f"-o/--output: '{options.output}'"
        parser.error(f"{name}: expected a name that ends in {suffix}{hint}")
    if options.dtmodel:
        if options.link_weights:
            parser.error("--link-weights: a package holds its weights; leave it out, or --dtmodel")
        return
    packages = {"--noise-level": options.noise_level is not None, "--force": options.force}
    if wrong := [name for name, is_given in packages.items() if is_given]:
        parser.error(f"{', '.join(wrong)}: only for packages of darktable; add --dtmodel")


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion export",
        description="Write a model as an ONNX file with variable height and width, for other "
        "programs and for refusion-lite, which restores photos without PyTorch. The result is "
        "compared with PyTorch on three sizes. A model with a latent U-Net becomes five files. "
        "With --dtmodel, write a package that darktable installs.",
        epilog="Exit code: 0 written, 2 wrong usage or a model that cannot be exported. Needs the "
        "package onnx: pip install 'refusion[onnx]'.",
    )
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        metavar="FILE",
        help="a .safetensors file, a folder with one, or the name of a shipped model",
    )
    add("--task", metavar="NAME", help="a shipped model, such as dehaze")
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write: NAME.onnx, or NAME.dtmodel with --dtmodel",
    )
    add(
        "--dtmodel",
        action="store_true",
        help="write a package for darktable; the model must restore a tile from the tile alone: "
        "denoise, blind and models like them",
    )
    add(
        "--noise-level",
        type=positive,
        metavar="SIGMA",
        help="with --dtmodel: standard deviation of the noise that the model removes, in 8-bit "
        "levels (denoising models)",
    )
    add("--force", action="store_true", help="with --dtmodel: overwrite a file that exists")
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
        _report_differences(each.differences)
    if not any(each.restores for each in written):
        show("refusion-lite cannot restore photos with this model; other programs can run it")


def _report_package(package: Package) -> None:
    show(f"{package.path}: model '{package.id}' of the task denoise")
    _report_differences(package.differences)
    show("install it in darktable: preferences, AI, install from file")


def _report_differences(differences: Sequence[Difference]) -> None:
    for size in differences:
        at = f"{size.width}x{size.height}"
        show(f"    {at}: largest difference from PyTorch {size.largest:.2g}, "
             f"largest value {size.value:.3g}")  # fmt: skip
    if not differences:
        show("    not compared with PyTorch: the package onnxruntime is missing")
