"""`refusion test`: restore photos with ground truth and measure the results."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion import __version__
from refusion.cli.evaluation_sets import EvaluationSet, file_sets, folder_set
from refusion.cli.model_options import (
    TOLD,
    add_model_options,
    check_sampler,
    chosen_checkpoint,
    count,
    known_of_photos,
    option_name,
    warnings_on_stderr,
)
from refusion.errors import CheckpointError, ConfigError
from refusion.files import written_whole

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from torch import Tensor

    from refusion.checkpoint import Checkpoint
    from refusion.config import RunConfig
    from refusion.evaluation import Evaluation, Score
    from refusion.official.evaluate import OfficialTest
    from refusion.restorers.base import Restorer

_NOT_WITH_OPT = ("task", "weights", "lq", "gt", "lq_suffix", "gt_suffix", *TOLD)


def run(argv: list[str]) -> int:
    """Evaluate the model that the arguments name.

    Returns:
        0: all photos were restored and measured.

    Raises:
        RefusionError: a wrong option or file, or a photo that cannot be used.
    """
    options = build_parser().parse_args(argv)
    _check(options)
    check_sampler(options.sampler)
    with warnings_on_stderr():
        restorer, sets = (_from_file if options.opt else _from_folders)(options)
        results = {}
        for chosen in sets:
            results[chosen.name] = _evaluate(restorer, chosen, options)
            _show(f"{chosen.name}\n{results[chosen.name].table()}\n\n")
    if options.json:
        _write_json(options.json, _report(restorer, options, results))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="refusion test",
        description="Restore whole photos at full size and measure PSNR and SSIM against the "
        "ground truth, beside those of the degraded photos. Data and model come from an options "
        "file (-opt), or from --lq, --gt and --task or --weights.",
        epilog="Exit code: 0 done, 2 wrong usage or unusable files.",
    )
    add = parser.add_argument
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
    add("--lq", type=Path, metavar="DIR", help="degraded photos")
    add("--gt", type=Path, metavar="DIR", help="ground truth; without it nothing is measured")
    add("--lq-suffix", metavar="TEXT", help="end of degraded names: _hazy for 01_hazy.png")
    add("--gt-suffix", metavar="TEXT", help="end of ground-truth names: _GT for 01_GT.png")
    add_model_options(parser)
    add("--limit", type=count, metavar="N", help="only the first N photos of each set")
    add("--max-side", type=count, metavar="PX", help="shrink larger photos (default: full size)")
    add("--output", type=Path, metavar="DIR", help="write the restored photos here, as PNG")
    add("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if options.opt:
        given = [name for name in _NOT_WITH_OPT if getattr(options, name) is not None]
        if given:
            raise ConfigError(
                f"{option_name(given[0])}: -opt names model and data already; remove one of them"
            )
        return
    if options.set:
        raise ConfigError("--set: needs -opt, whose settings it changes")
    if not options.lq:
        raise ConfigError(
            "nothing to evaluate on: give -opt FILE, or --lq DIR and --gt DIR; see --help"
        )
    if options.gt_suffix is not None and not options.gt:
        raise ConfigError("--gt-suffix: needs --gt")


def _from_folders(options: argparse.Namespace) -> tuple[Restorer, list[EvaluationSet]]:
    """Model of --weights or --task, photos of --lq and --gt."""
    restorer = _restorer(chosen_checkpoint(options), options)
    known = known_of_photos(options, restorer.info)
    sets = [folder_set(options, restorer.info, known)]
    _prepare(options, sets)
    return restorer, sets


def _from_file(options: argparse.Namespace) -> tuple[Restorer, list[EvaluationSet]]:
    """Model and sets of an options file, ours or the authors'; sets `options.weights`."""
    from refusion.checkpoint import read_checkpoint

    official = _official(options.opt, options.set)
    if official is None:
        config = _run_config(options)
        options.weights = _trained_weights(config, options)
        sets = file_sets(options, config.data.validation, config.train.seed)
    else:
        options.weights = official.files.network or official.files.latent_unet
        sets = file_sets(options, official.sets, 0)
    _prepare(options, sets)
    checkpoint = read_checkpoint(options.weights) if official is None else official.read()
    return _restorer(checkpoint, options), sets


def _official(path: Path, changes: Sequence[str]) -> OfficialTest | None:
    """The content of an option file of the authors' code; None for any other file."""
    from refusion.config import read_yaml
    from refusion.official.evaluate import official_test
    from refusion.official.options import is_official

    raw = read_yaml(path)
    if not is_official(raw):
        return None
    test = official_test(raw, str(path), changes)
    if not test.sets:
        raise ConfigError(f"{path}: datasets: no set to evaluate on; give the file for testing")
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
    if not config.data.validation:
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
    folders = {"--output": options.output, "--json": options.json and options.json.parent}
    for option, folder in folders.items():
        if folder:
            _make_folder(option, folder)
    if options.json and options.json.is_dir():
        raise ConfigError(f"--json: '{options.json}' is a folder, expected a file name")


def _make_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option}: no folder '{folder}': {error.strerror}") from error


def _restorer(checkpoint: Checkpoint, options: argparse.Namespace) -> Restorer:
    """Refuses the model of stage latent_unet, which gives photos back as they are."""
    from refusion.restorers import load_restorer

    if checkpoint.model.network is None:
        raise CheckpointError(
            f"{checkpoint.path}: holds a latent U-Net alone, there is nothing to restore with; "
            "train stage diffusion on it first"
        )
    return load_restorer(checkpoint, device=options.device, precision=options.precision)


def _evaluate(restorer: Restorer, chosen: EvaluationSet, options: argparse.Namespace) -> Evaluation:
    from tqdm import tqdm

    from refusion.evaluation import evaluate

    names: Counter[str] = Counter()
    with tqdm(unit="photo", disable=None, desc=chosen.name, leave=False) as bar:

        def done(number: int, total: int, score: Score, restored: Tensor) -> None:
            bar.total = total
            bar.update(number - bar.n)
            if options.output:
                names[score.name] += 1  # photos of several folders may share a name
                again = f"_{names[score.name]}" if names[score.name] > 1 else ""
                _write_photos(chosen.folder / f"{score.name}{again}", restored)

        return evaluate(
            restorer,
            chosen.dataset,
            steps=options.steps,
            sampler=options.sampler,
            seed=options.seed,
            tile=options.tile,
            limit=options.limit,
            callback=done,
        )


def _write_photos(path: Path, restored: Tensor) -> None:
    """Write a photo (3, H, W), or both views of a pair (6, H, W); `path` lacks its ending."""
    from refusion.data.image_io import write_image

    _make_folder("--output", path.parent)
    views = restored.split(3)
    for view, end in zip(views, ("_L", "_R") if len(views) == 2 else ("",), strict=True):
        write_image(path.with_name(f"{path.name}{end}.png"), view)


def _report(
    restorer: Restorer, options: argparse.Namespace, results: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """All that is needed to compute the numbers again, and the numbers."""
    info = restorer.info
    model = {
        "task": info.task,
        "weights": str(options.weights) if options.weights else None,
        "sampler": options.sampler or info.sampler,
        "steps": options.steps or info.steps,
        "seed": options.seed,
        "tile": options.tile,
        "device": info.device,
        "precision": info.precision,
    }
    model |= {key: value for key in TOLD if (value := getattr(options, key)) is not None}
    size = {"limit": options.limit, "max_side": options.max_side}
    sets = {name: result.to_dict() for name, result in results.items()}
    return {"refusion": __version__, "model": model, **size, "sets": sets}


def _write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the whole file or leave what was there."""
    try:
        with written_whole(path) as aside:
            text = json.dumps(report, indent=2, allow_nan=False)
            aside.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json: cannot write '{path}': {error.strerror}") from error


def _show(text: str) -> None:
    """Write to stdout; file names that its encoding lacks letters for must not end the run."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
