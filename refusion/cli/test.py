"""`refusion test`: restore photos with ground truth and measure the results."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.common import Parser, show
from refusion.cli.options.learned_metrics import add_learned_metrics, metric_files
from refusion.cli.options.model import (
    CONDITION_OPTIONS,
    add_model_options,
    check_sampler,
    chosen_checkpoint,
    photo_conditions,
    warnings_on_stderr,
)
from refusion.cli.options.submit import add_submit_options, entry_of
from refusion.cli.options.values import count, option_name, whole
from refusion.config.plugins import import_plugins
from refusion.errors import CheckpointError, ConfigError
from refusion.evaluation.baselines import BASELINES
from refusion.evaluation.entry import Entry, check_entry
from refusion.evaluation.learned_metrics import MetricFiles
from refusion.evaluation.options import RunOptions
from refusion.evaluation.options_file import read_options_file
from refusion.evaluation.outputs import Outputs
from refusion.evaluation.run import EvaluationRun
from refusion.evaluation.sets import EvaluationSet, Folders, file_sets, folder_set

if TYPE_CHECKING:  # these import torch, which --help does not need
    from refusion.checkpoint import Checkpoint
    from refusion.restorers.base import Restorer

# Options that describe the photos of --lq and --data; the sets of an options file have their own.
_OF_FOLDERS = ("lq_suffix", "gt_suffix", *CONDITION_OPTIONS)


def run(argv: list[str]) -> int:
    """Evaluate the model that the arguments name.

    Returns:
        0: all photos were restored and measured.

    Raises:
        RefusionError: a wrong option or file, or a photo that cannot be used.
    """
    options = build_parser().parse_args(argv)
    import_plugins(options.plugin)
    _check(options)
    outputs = _outputs(options, entry_of(options))
    chosen_options = _run_options(options, metric_files(options))
    with warnings_on_stderr():
        checkpoint, restorer, sets = _chosen(options, outputs)
        if outputs.entry:
            check_entry(outputs.entry, restorer.info, sets)
        evaluation = EvaluationRun(checkpoint, restorer, chosen_options, outputs)
        for chosen in sets:
            show(*evaluation.add(chosen).splitlines())
        evaluation.finish()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = Parser(
        prog="refusion test",
        description="Restore whole photos at full size and measure them against the ground truth. "
        "The degraded photos are measured, too. Data and model come from an option file (-opt), "
        "or from --data (or --lq and --gt) and --task or --weights. With -opt, --data and "
        "--weights replace the sets and the model of the file. If a run with --output is "
        "interrupted, the same command continues it.",
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
        help="use the model and the validation sets of this option file, ours or the authors'",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with -opt: change one setting, e.g. data.validation.0.lq=photos; may be repeated",
    )
    add(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder that contains the run folders",
    )
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
    add("--json", type=Path, metavar="FILE", help="write all scores to this file")
    add("--csv", type=Path, metavar="FILE", help="write a line per photo and method to this file")
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="write one self-contained page: a before-after slider over each photo, all pictures "
        "beside each other, and parts at 100 %% (needs --output)",
    )
    add(
        "--beside",
        type=beside_of,
        action="append",
        default=[],
        metavar="TITLE=DIR",
        help="the page also shows the pictures of this folder that have the names of photos, for "
        "example results of another method; may be repeated (needs --html)",
    )
    add(
        "--crop-border",
        type=whole,
        default=0,
        metavar="PX",
        help="cut off this many pixels on every side before measuring (default: 0)",
    )
    add(
        "--baselines",
        nargs="+",
        choices=BASELINES,
        default=[],
        metavar="NAME",
        help="also measure the latent U-Net's reconstruction of the input (latent_unet), and the "
        "removal of haze by the dark channel prior (dark_channel) and by the colour attenuation "
        "prior (colour_attenuation)",
    )


def folders_of(text: str) -> Folders:
    """Option type: NAME=LQ_DIR or NAME=LQ_DIR:GT_DIR.

    >>> folders_of("smoke=photos/lq:photos/gt").gt.as_posix()
    'photos/gt'
    """
    name, _, rest = text.partition("=")
    parts = re.findall(r"(?:[A-Za-z]:(?=\\))?[^:]+", rest)  # C:\ is a drive, its colon stays
    if not re.fullmatch(r"[\w.-]+", name) or ":".join(parts) != rest or len(parts) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"expected NAME=LQ_DIR or NAME=LQ_DIR:GT_DIR, got '{text}'"
        )
    return Folders(name, Path(parts[0]), Path(parts[1]) if len(parts) == 2 else None, name)


def beside_of(text: str) -> tuple[str, Path]:
    """Option type: TITLE=DIR.

    >>> beside_of("RIDCP=published/results")[0]
    'RIDCP'
    """
    title, _, folder = text.partition("=")
    if not title or not folder:
        raise argparse.ArgumentTypeError(f"expected TITLE=DIR, got '{text}'")
    return title, Path(folder)


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, or that need another option."""
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
        raise ConfigError("--gt-suffix: needs --gt, or a folder of ground truth in --data")
    if options.html and not options.output:
        raise ConfigError("--html: needs --output, as it shows the pictures written there")
    if options.beside and not options.html:
        raise ConfigError("--beside: needs --html, the page that shows these pictures")
    _check_names("--data", [one.name for one in options.data])
    _check_names("--beside", [title for title, _ in options.beside])


def _check_names(option: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ConfigError(f"{option}: the same name twice among {', '.join(names)}")


def _chosen(
    options: argparse.Namespace, outputs: Outputs
) -> tuple[Checkpoint, Restorer, list[EvaluationSet]]:
    """Model and sets. The sampler and the sets of an options file are checked before the model."""
    if not options.opt:
        check_sampler(options.sampler)
        return _with_folders(chosen_checkpoint(options), options, outputs)
    file = read_options_file(
        options.opt,
        options.set,
        runs=options.runs,
        weights=options.weights,
        needs_sets=not options.data,
    )
    check_sampler(options.sampler)  # the plug-ins of the file may define it
    if options.data:
        return _with_folders(file.checkpoint(options.weights), options, outputs)
    sizes = {"output": options.output, "max_side": options.max_side}
    sets = file_sets(file.sets, file.seed, options.opt, **sizes)
    outputs.prepare(sets)
    checkpoint = file.checkpoint(options.weights)
    return checkpoint, _restorer(checkpoint, options), sets


def _with_folders(
    checkpoint: Checkpoint, options: argparse.Namespace, outputs: Outputs
) -> tuple[Checkpoint, Restorer, list[EvaluationSet]]:
    """Model, and sets of the folders that options name; the model decides how they are read."""
    restorer = _restorer(checkpoint, options)
    conditions = photo_conditions(options, restorer.info)
    sizes = {"output": options.output, "max_side": options.max_side}
    ends = {"lq_suffix": options.lq_suffix, "gt_suffix": options.gt_suffix}
    folders = options.data or [Folders(str(options.lq), options.lq, options.gt)]
    sets = [folder_set(replace(one, **ends), restorer.info, conditions, **sizes) for one in folders]
    outputs.prepare(sets)
    return checkpoint, restorer, sets


def _run_options(options: argparse.Namespace, files: MetricFiles) -> RunOptions:
    conditions = {key: getattr(options, key) for key in CONDITION_OPTIONS}
    return RunOptions(
        steps=options.steps,
        sampler=options.sampler,
        seed=options.seed,
        tile=options.tile,
        limit=options.limit,
        max_side=options.max_side,
        crop_border=options.crop_border,
        baselines=tuple(options.baselines),
        metric_files=files,
        conditions={key: value for key, value in conditions.items() if value is not None},
        file=options.opt,
        plugins=tuple(options.plugin),
    )


def _outputs(options: argparse.Namespace, entry: Entry | None) -> Outputs:
    """The files to write; with --output there are always scores.json and scores.csv."""
    folder = options.output
    return Outputs(
        folder=folder,
        json=options.json or (folder and folder / "scores.json"),
        csv=options.csv or (folder and folder / "scores.csv"),
        html=options.html,
        beside=dict(options.beside),
        entry=entry,
    )


def _restorer(checkpoint: Checkpoint, options: argparse.Namespace) -> Restorer:
    """Load the model, unless it is the result of stage latent_unet, which only encodes photos."""
    from refusion.restorers import load_restorer

    if checkpoint.model.network is None:
        raise CheckpointError(
            f"{checkpoint.path}: contains only a latent U-Net, which cannot restore photos; "
            "train stage diffusion on it first"
        )
    return load_restorer(checkpoint, device=options.device, precision=options.precision)
