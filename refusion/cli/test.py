"""`refusion test`: restore photos with ground truth and measure the results."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion import __version__
from refusion.cli.model_options import (
    DEFAULT_TASK,
    add_model_options,
    check_sampler,
    count,
    load_chosen,
    warnings_on_stderr,
)
from refusion.errors import CheckpointError, ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from torch import Tensor

    from refusion.config import NamedComponent, RunConfig
    from refusion.evaluation import Evaluation, Photos, Score
    from refusion.restorers.base import Restorer

_FOLDER_OPTIONS = ("lq", "gt", "lq_suffix", "gt_suffix")


@dataclass(frozen=True)
class _Set:
    """Photos to evaluate on, the folder below --output for their results, what they are read of."""

    name: str
    dataset: Photos
    folder: Path
    sources: tuple[Path, ...]


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
        if options.opt:
            config = _run_config(options)
            options.weights = _trained_weights(config, options)
            seed = config.train.seed
            sets = [_validation_set(options, part, seed) for part in config.data.validation]
        else:
            sets = [_folder_set(options)]
        _prepare(options, sets)
        _check_restores(options.weights or options.task or DEFAULT_TASK)
        restorer = load_chosen(options)
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
    add("-opt", "--opt", type=Path, metavar="FILE", help="validation sets and run of this file")
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

    def given(*names: str) -> list[str]:
        return [
            f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None
        ]

    if options.opt:
        unused = given("task", "weights", *_FOLDER_OPTIONS)
        if unused:
            raise ConfigError(f"{unused[0]}: -opt names model and data already; remove one of them")
        return
    if not options.lq:
        raise ConfigError(
            "nothing to evaluate on: give -opt FILE, or --lq DIR and --gt DIR; see --help"
        )
    if options.gt_suffix is not None and not options.gt:
        raise ConfigError("--gt-suffix: needs --gt")


def _folder_set(options: argparse.Namespace) -> _Set:
    from refusion.data import DATASETS

    sources = (options.lq,) if options.gt is None else (options.lq, options.gt)
    # Without ground truth every photo is its own partner, so that the same rules apply.
    pairs = DATASETS["PairedFolder"](
        lq=options.lq,
        gt=sources[-1],
        lq_suffix=options.lq_suffix or "",
        gt_suffix=(options.gt_suffix if options.gt else options.lq_suffix) or "",
        max_side=options.max_side,
    )
    dataset = pairs if options.gt else _WithoutTarget(pairs)
    return _Set(str(options.lq), dataset, options.output or Path(), sources)


class _WithoutTarget:
    """A dataset whose items lack the ground truth."""

    def __init__(self, pairs: Photos) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.pairs[index]
        return {key: item[key] for key in ("lq", "name")}


def _run_config(options: argparse.Namespace) -> RunConfig:
    """Read the options file, with --max-side put into each validation set."""
    from refusion.config import load_config

    config = load_config(options.opt)
    if config.stage == "latent_unet":
        raise ConfigError(
            f"{options.opt}: stage latent_unet trains the U-Net alone, there is nothing to "
            "restore with; train stage diffusion first and give its options file"
        )
    if not config.data.validation:
        raise ConfigError(f"{options.opt}: data.validation is empty; add a set to evaluate on")
    if not options.max_side:
        return config
    indices = range(len(config.data.validation))
    sizes = [f"data.validation.{index}.max_side={options.max_side}" for index in indices]
    return load_config(options.opt, sizes)


def _trained_weights(config: RunConfig, options: argparse.Namespace) -> Path:
    path = options.runs / config.name / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path}: not there yet; run 'train.py -opt {options.opt}' first")
    return path


def _validation_set(options: argparse.Namespace, section: NamedComponent, seed: int) -> _Set:
    from refusion.data import DATASETS

    try:
        dataset = DATASETS[section.type](**section.settings, seed=seed)
    except ConfigError as error:
        raise ConfigError(f"{options.opt}: validation set '{section.name}': {error}") from error
    settings = section.settings
    sources = [*settings.get("folders", ()), *(settings[k] for k in ("lq", "gt") if k in settings)]
    folder = (options.output or Path()) / section.name
    return _Set(section.name, dataset, folder, tuple(map(Path, sources)))


def _prepare(options: argparse.Namespace, sets: list[_Set]) -> None:
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


def _check_restores(task_or_path: str | Path) -> None:
    """Refuse a checkpoint of stage latent_unet, which gives photos back as they are."""
    from refusion.checkpoint import find_weights, read_checkpoint

    path = find_weights(task_or_path)
    if read_checkpoint(path).model.network is None:
        raise CheckpointError(
            f"{path}: holds a latent U-Net alone, there is nothing to restore with; "
            "train stage diffusion on it first"
        )


def _evaluate(restorer: Restorer, chosen: _Set, options: argparse.Namespace) -> Evaluation:
    from tqdm import tqdm

    from refusion.data.image_io import write_image
    from refusion.evaluation import evaluate

    names: Counter[str] = Counter()
    with tqdm(unit="photo", disable=None, desc=chosen.name, leave=False) as bar:

        def done(number: int, total: int, score: Score, restored: Tensor) -> None:
            bar.total = total
            bar.update(number - bar.n)
            if options.output:
                names[score.name] += 1  # photos of several folders may share a name
                again = f"_{names[score.name]}" if names[score.name] > 1 else ""
                path = chosen.folder / f"{score.name}{again}.png"
                _make_folder("--output", path.parent)
                write_image(path, restored)

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
    size = {"limit": options.limit, "max_side": options.max_side}
    sets = {name: result.to_dict() for name, result in results.items()}
    return {"refusion": __version__, "model": model, **size, "sets": sets}


def _write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the whole file or leave what was there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise ConfigError(f"--json: cannot write '{path}': {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def _show(text: str) -> None:
    """Write to stdout; file names that its encoding lacks letters for must not end the run."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
