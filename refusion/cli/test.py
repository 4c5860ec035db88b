"""`refusion test`: restore photos with ground truth and measure the results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.options.learned_metrics import add_learned_metrics, check_learned_metrics
from refusion.cli.options.model import (
    CONDITION_OPTIONS,
    add_model_options,
    check_sampler,
    chosen_checkpoint,
    count,
    option_name,
    photo_conditions,
    warnings_on_stderr,
    whole,
)
from refusion.cli.options.submit import add_submit_options, check_entry, check_submit_options
from refusion.errors import CheckpointError, ConfigError
from refusion.evaluation.result_files import make_folder
from refusion.evaluation.run import EvaluationRun
from refusion.evaluation.sets import EvaluationSet, Folders, file_sets, folder_set, folders_of

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.checkpoint import Checkpoint
    from refusion.config import RunConfig
    from refusion.config.parser import NamedComponent
    from refusion.official.evaluate import OfficialTest
    from refusion.restorers.base import Restorer

_OF_FOLDERS = (
    "lq_suffix",
    "gt_suffix",
    *CONDITION_OPTIONS,
)  # what is said of photos that options name
BASELINES = ("latent_unet", "dark_channel")


def run(argv: list[str]) -> int:
    """Evaluate the model that the arguments name.

    Returns:
        0: all photos were restored and measured.

    Raises:
        RefusionError: a wrong option or file, or a photo that cannot be used.
    """
    options = build_parser().parse_args(argv)
    _check(options)
    check_submit_options(options)
    check_learned_metrics(options)
    check_sampler(options.sampler)
    with warnings_on_stderr():
        checkpoint, restorer, sets = _chosen(options)
        check_entry(options, restorer.info, sets)
        evaluation = EvaluationRun(checkpoint, restorer, options)
        for chosen in sets:
            _show(evaluation.add(chosen))
        evaluation.finish()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="refusion test",
        description="Restore whole photos at full size and measure them against the ground truth, "
        "beside the degraded photos. Data and model come from an options file (-opt), or from "
        "--data (or --lq and --gt) and --task or --weights; with -opt these stand in for its own. "
        "An interrupted run with --output goes on where it stopped.",
        epilog="Exit code: 0 done, 2 wrong usage or unusable files, 130 interrupted.",
    )
    _add_data_options(parser.add_argument)
    add_model_options(parser)
    _add_result_options(parser.add_argument_group("results").add_argument)
    add_learned_metrics(parser.add_argument_group("metrics that need files").add_argument)
    add_submit_options(parser.add_argument_group("a challenge entry").add_argument)
    return parser


def _add_data_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "-opt",
        "--opt",
        type=Path,
        metavar="FILE",
        help="validation sets and run of this file, or sets and weights of the authors' own",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with -opt: change one setting, e.g. data.validation.0.lq=photos; may be repeated",
    )
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of run folders")
    add(
        "--data",
        type=folders_of,
        action="append",
        default=[],
        metavar="NAME=LQ[:GT]",
        help="folders of degraded photos and of their ground truth; may be repeated",
    )
    add("--lq", type=Path, metavar="DIR", help="degraded photos")
    add("--gt", type=Path, metavar="DIR", help="ground truth; without it nothing is measured")
    add("--lq-suffix", metavar="TEXT", help="end of degraded names: _hazy for 01_hazy.png")
    add("--gt-suffix", metavar="TEXT", help="end of ground-truth names: _GT for 01_GT.png")
    add("--limit", type=count, metavar="N", help="only the first N photos of each set")
    add("--max-side", type=count, metavar="PX", help="shrink larger photos (default: full size)")


def _add_result_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "--output",
        "--out",
        type=Path,
        metavar="DIR",
        help="write the restored photos here, as PNG, and scores.json and scores.csv",
    )
    add("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    add("--csv", type=Path, metavar="FILE", help="write a line per photo and method to this file")
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="write one self-contained page with a before-after slider (needs --output)",
    )
    add(
        "--crop-border",
        type=whole,
        default=0,
        metavar="PX",
        help="pixels to leave out on every side when measuring (default: 0)",
    )
    add(
        "--baselines",
        nargs="+",
        choices=BASELINES,
        default=[],
        metavar="NAME",
        help="also measure the latent U-Net's reconstruction of the input (latent_unet) and the "
        "dark channel prior (dark_channel)",
    )


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if options.opt:
        refused = ("task", "lq", "gt", *(() if options.data else _OF_FOLDERS))
        given = [name for name in refused if getattr(options, name) is not None]
        if given:
            raise ConfigError(
                f"{option_name(given[0])}: -opt names model and data already; remove one of them"
            )
    elif options.set:
        raise ConfigError("--set: needs -opt, whose settings it changes")
    if options.data and options.lq:
        raise ConfigError("--lq: --data names folders already; remove one of them")
    if not (options.opt or options.lq or options.data):
        raise ConfigError(
            "nothing to evaluate on: give -opt FILE, --data NAME=LQ:GT, or --lq DIR and --gt DIR; "
            "see --help"
        )
    if options.gt_suffix is not None and not (options.gt or any(one.gt for one in options.data)):
        raise ConfigError("--gt-suffix: needs --gt")
    if options.html and not options.output:
        raise ConfigError("--html: needs --output, whose pictures it shows")
    names = [one.name for one in options.data]
    if len(set(names)) < len(names):
        raise ConfigError(f"--data: the same name twice among {', '.join(names)}")


def _chosen(options: argparse.Namespace) -> tuple[Checkpoint, Restorer, list[EvaluationSet]]:
    """Model and sets; folders that options name are read as the model needs them."""
    model = _model_of_file(options) if options.opt else _Model(options.weights)
    sets = [] if options.data or options.lq else file_sets(options, model.sets, model.seed)
    if sets:  # before the model is read
        _prepare(options, sets)
    options.weights = options.weights or model.weights
    checkpoint = model.official.read() if _is_official(model, options) else _read(options)
    restorer = _restorer(checkpoint, options)
    if not sets:
        known = photo_conditions(options, restorer.info)
        named = options.data or [Folders(str(options.lq), options.lq, options.gt)]
        sets = [folder_set(one, options, restorer.info, known) for one in named]
        _prepare(options, sets)
    return checkpoint, restorer, sets


@dataclass(frozen=True)
class _Model:
    """What an options file, or none, says."""

    weights: Path | None
    sets: Sequence[NamedComponent] = ()
    seed: int = 0
    official: OfficialTest | None = None


def _model_of_file(options: argparse.Namespace) -> _Model:
    """What an options file, ours or the authors', names."""
    official = _official(options)
    if official is not None:
        own = official.files.network or official.files.latent_unet
        return _Model(own, official.sets, official=official)
    config = _run_config(options)
    weights = options.weights or _trained_weights(config, options)
    return _Model(weights, config.data.validation, config.train.seed)


def _is_official(model: _Model, options: argparse.Namespace) -> bool:
    return model.official is not None and options.weights == model.weights


def _read(options: argparse.Namespace) -> Checkpoint:
    from refusion.checkpoint import read_checkpoint

    return read_checkpoint(options.weights) if options.opt else chosen_checkpoint(options)


def _official(options: argparse.Namespace) -> OfficialTest | None:
    """The content of an option file of the authors' code; None for any other file."""
    from refusion.config import read_yaml
    from refusion.config.official.options import is_official
    from refusion.official.evaluate import official_test

    raw = read_yaml(options.opt)
    if not is_official(raw):
        return None
    test = official_test(raw, str(options.opt), options.set)
    if not (test.sets or options.data):
        raise ConfigError(
            f"{options.opt}: datasets: no set to evaluate on; give the file for testing"
        )
    return test


def _run_config(options: argparse.Namespace) -> RunConfig:
    """Our own options file, if there is something to evaluate."""
    from refusion.config import load_config

    config = load_config(options.opt, options.set)
    if config.stage == "latent_unet":
        raise ConfigError(
            f"{options.opt}: stage latent_unet trains the U-Net alone, there is nothing to "
            "restore with; train stage diffusion first and give its options file"
        )
    if not (config.data.validation or options.data):
        raise ConfigError(f"{options.opt}: data.validation is empty; add a set to evaluate on")
    return config


def _trained_weights(config: RunConfig, options: argparse.Namespace) -> Path:
    path = options.runs / config.name / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path}: not there yet; run 'train.py -opt {options.opt}' first")
    return path


def _prepare(options: argparse.Namespace, sets: list[EvaluationSet]) -> None:
    """Find out now, not after the work, that results cannot be written."""
    for source in (source for chosen in sets for source in chosen.sources):
        if options.output and options.output.resolve().is_relative_to(source.resolve()):
            raise ConfigError(
                f"--output: '{options.output}' lies in '{source}', whose photos are read; "
                "choose another folder"
            )
    if options.output:
        make_folder("--output", options.output)
    for key in ("json", "csv", "html", "submit"):
        path = getattr(options, key)
        if path:
            make_folder(option_name(key), path.parent)
        if path and path.is_dir():
            raise ConfigError(f"--{key}: '{path}' is a folder, expected a file name")


def _restorer(checkpoint: Checkpoint, options: argparse.Namespace) -> Restorer:
    """Refuses the model of stage latent_unet, which gives photos back as they are."""
    from refusion.restorers import load_restorer

    if checkpoint.model.network is None:
        raise CheckpointError(
            f"{checkpoint.path}: holds a latent U-Net alone, there is nothing to restore with; "
            "train stage diffusion on it first"
        )
    return load_restorer(checkpoint, device=options.device, precision=options.precision)


def _show(text: str) -> None:
    """Write to stdout; file names that its encoding lacks letters for must not end the run."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
