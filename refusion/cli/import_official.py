"""`refusion import`: converts published weights to a checkpoint of this project."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.common import Parser, show
from refusion.cli.options.model import warnings_on_stderr
from refusion.cli.options.values import count, finite_number
from refusion.errors import ConfigError

if TYPE_CHECKING:  # imports torch, which is too slow for --help
    from refusion.checkpoint import Checkpoint
    from refusion.config.parser import Component
    from refusion.official.importing import ImportChoices, OfficialFiles

DTYPES = ("float32", "float16", "bfloat16")
_OFFICIAL = ("net", "latent", "options", "task", "max_sigma", "T", "wiring", "upscale")
"""Keys of the options for the authors' weights."""


def run(argv: list[str]) -> int:
    """Import the files named by the arguments.

    Returns:
        0 after the checkpoint was written.

    Raises:
        RefusionError: a file cannot be read, or the files do not fit each other.
    """
    options = build_parser().parse_args(argv)
    _check(options)
    import torch

    from refusion.checkpoint import save_checkpoint

    with warnings_on_stderr():
        found = _imported(options)
        dtype = None if options.dtype is None else getattr(torch, options.dtype)
        save_checkpoint(options.output, found.model, found.tensors, found.info, dtype)
    show(*_describe(found), str(options.output))
    return 0


def _imported(options: argparse.Namespace) -> Checkpoint:
    from refusion.official.adm import import_adm
    from refusion.official.importing import import_official

    if options.adm is not None:
        side, head = options.image_size, options.head_channels
        return import_adm(options.adm, image_size=side, head_channels=head)
    return import_official(_files(options), _choices(options))


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion import",
        description="Convert weights published by the authors of IR-SDE and Refusion, or of "
        "DiffBIR's first stage (.pth or .safetensors), to one .safetensors file with all settings. "
        "The network and its sizes are detected from the weights; no code from a .pth file is run. "
        "Noise level, sampler and task are taken from the option file of the training or test, "
        "else from the options below, else from the published defaults.",
        epilog="Exit code: 0 done, 2 wrong usage or files that do not fit, with the reason.",
    )
    add = parser.add_argument
    _add_file_options(add)
    _add_setting_options(add)
    _add_adm_options(add)
    add("--dtype", choices=DTYPES, help="number format in the file (default: unchanged)")
    return parser


def _add_file_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "--net",
        type=Path,
        metavar="FILE",
        help="weights of the noise network (.pth or .safetensors)",
    )
    add(
        "--latent",
        type=Path,
        metavar="FILE",
        help="weights of the latent U-Net (.pth, .safetensors); also without --net",
    )
    add(
        "--options",
        type=Path,
        metavar="FILE",
        help="the authors' option file (.yml), train or test",
    )
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="file to write")


def _add_setting_options(add: Callable[..., argparse.Action]) -> None:
    add("--task", metavar="NAME", help="derain, deblur, deshadow, inpaint, sr, denoise, ...")
    add(
        "--max-sigma",
        type=finite_number,
        metavar="LEVELS",
        help="noise level of the process, 1..255",
    )
    add("--T", type=count, metavar="N", help="time steps of the process")
    add(
        "--wiring",
        choices=("pixel", "latent"),
        help="graph of a NAFNet, which cannot be detected (default, as published: latent with "
        "--latent except for bokeh, else pixel)",
    )
    add(
        "--upscale",
        choices=("nearest", "bicubic"),
        help="interpolation before super-resolution (default: as for the released weights)",
    )
    add(
        "--trust-weights",
        action="store_true",
        help="use the sizes of the weights if those in --options differ",
    )


def _add_adm_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "--adm",
        type=Path,
        metavar="FILE",
        help="unconditional ADM of guided-diffusion, instead of --net",
    )
    add(
        "--image-size",
        type=count,
        default=256,
        metavar="PX",
        help="training image size of --adm (256)",
    )
    add(
        "--head-channels",
        type=count,
        default=64,
        metavar="N",
        help="channels per attention head of --adm (64)",
    )


def _check(options: argparse.Namespace) -> None:
    """Check the options before a file is read."""
    if not (options.net or options.latent or options.adm):
        raise ConfigError("nothing to import: give --net FILE, --latent FILE or both; see --help")
    if options.adm and any(vars(options)[key] is not None for key in _OFFICIAL):
        raise ConfigError("--adm: leave out the options of other weights (--net, --task, ...)")
    if options.output.suffix != ".safetensors":
        raise ConfigError(f"--output: '{options.output}' must end in .safetensors")
    if options.max_sigma is not None and not 1 <= options.max_sigma <= 255:
        raise ConfigError(f"--max-sigma: expected 1 to 255, got {options.max_sigma:g}")


def _files(options: argparse.Namespace) -> OfficialFiles:
    from refusion.official.importing import OfficialFiles

    content = None if options.options is None else _read_options(options.options)
    return OfficialFiles(options.net, options.latent, content, str(options.options or ""))


def _choices(options: argparse.Namespace) -> ImportChoices:
    from refusion.official.importing import ImportChoices

    return ImportChoices(
        task=options.task,
        wiring=options.wiring,
        max_sigma=options.max_sigma,
        T=options.T,
        upscale=options.upscale,
        trust_weights=options.trust_weights,
    )


def _read_options(path: Path) -> dict[str, Any]:
    from refusion.config import read_yaml
    from refusion.config.official.options import is_official

    raw = read_yaml(path)
    if not is_official(raw):
        raise ConfigError(
            f"--options: {path} is not an option file of the authors (it has no network_G and "
            "datasets); weights trained here need no import"
        )
    return raw


def _describe(found: Checkpoint) -> list[str]:
    """Description of the imported model, one line per part."""
    model, lines = found.model, [f"task: {found.model.task}"]
    for part in ("network", "latent_unet"):
        component = getattr(model, part)
        if component is not None:
            own = (t.numel() for n, t in found.tensors.items() if n.startswith(f"{part}."))
            lines.append(f"{part}: {_component_text(component)} ({sum(own) / 1e6:.2f} M values)")
    if model.sde is not None:
        lines.append(f"sde: {_component_text(model.sde)}")
        lines.append(f"sampling: {model.sampling.sampler}, {model.sampling.steps} steps")
    if model.upscale is not None:
        lines.append(f"upscale: {model.upscale.mode}, factor {model.upscale.factor}")
    return lines


def _component_text(component: Component) -> str:
    numbers = {k: f"{v:g}" if isinstance(v, float) else v for k, v in component.settings.items()}
    return ", ".join([component.type, *(f"{key} {value}" for key, value in numbers.items())])
