"""Sets of photos that `refusion test` evaluates on: of folders, or of an options file."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.config.parser import NamedComponent
    from refusion.evaluation.scoring import Photos
    from refusion.restorers.base import Conditions, RestorerInfo

_SOURCES = ("lq", "gt", "folder")  # settings of datasets that name one folder; `folders` has many


@dataclass(frozen=True)
class EvaluationSet:
    """Photos to evaluate on.

    Attributes:
        name: shown above the table.
        dataset: whole photos.
        folder: place below --output for their results.
        sources: folders the photos are read from.
    """

    name: str
    dataset: Photos
    folder: Path
    sources: tuple[Path, ...]


@dataclass(frozen=True)
class Folders:
    """Folders to evaluate on, as the user named them.

    Attributes:
        name: of the set.
        lq: degraded photos.
        gt: ground truth, None for none.
        folder: place for the results below --output.
    """

    name: str
    lq: Path
    gt: Path | None
    folder: str = ""


def folders_of(text: str) -> Folders:
    """Option type: NAME=LQ_DIR or NAME=LQ_DIR:GT_DIR.

    >>> folders_of("smoke=photos/lq:photos/gt").gt.as_posix()
    'photos/gt'
    """
    name, _, rest = text.partition("=")
    parts = re.findall(r"(?:[A-Za-z]:(?=\\))?[^:]+", rest)  # a colon after a drive's letter stays
    if not re.fullmatch(r"[\w.-]+", name) or ":".join(parts) != rest or len(parts) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"expected NAME=LQ_DIR or NAME=LQ_DIR:GT_DIR, got '{text}'"
        )
    return Folders(name, Path(parts[0]), Path(parts[1]) if len(parts) == 2 else None, name)


def folder_set(
    chosen: Folders, options: argparse.Namespace, info: RestorerInfo, conditions: Conditions
) -> EvaluationSet:
    """Photos of folders and, where there is one, their ground truth, as the restorer needs them.

    Args:
        chosen: the folders.
        options: of the command.
        info: of the restorer.
        conditions: what it is told of every photo.

    Raises:
        ConfigError: a folder or a partner is missing, or an option does not go with the model.
    """
    sources = (chosen.lq,) if chosen.gt is None else (chosen.lq, chosen.gt)
    build = _stereo_pairs if info.views == 2 else _pairs
    dataset = _WithConditions(build(chosen, options, info), conditions)
    place = (options.output or Path()) / chosen.folder
    return EvaluationSet(chosen.name, dataset, place, sources)


def file_sets(
    options: argparse.Namespace, sections: Iterable[NamedComponent], seed: int
) -> list[EvaluationSet]:
    """The sets of an options file.

    Args:
        options: of the command; --max-side is put into every set.
        sections: the sets.
        seed: of their degradations.

    Raises:
        ConfigError: a folder is missing, or a set cannot be used.
    """
    return [_file_set(options, section, seed) for section in sections]


class _WithConditions:
    """A dataset whose items also say what is known of all photos."""

    def __init__(self, photos: Photos, conditions: Conditions) -> None:
        self.photos = photos
        told = {"lens": conditions.lens, "noise_std": conditions.noise_std}
        self.told = {key: value for key, value in told.items() if value is not None}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.photos[index] | self.told


def _pairs(chosen: Folders, options: argparse.Namespace, info: RestorerInfo) -> Photos:
    from refusion.data import DATASETS

    if chosen.gt and info.scale > 1 and options.max_side:
        raise ConfigError(
            f"--max-side: shrinking spoils pairs of sizes 1:{info.scale} for the '{info.task}' "
            "model; leave it out, or leave out the ground truth"
        )
    return DATASETS["PairedFolder"](
        lq=chosen.lq,
        gt=chosen.gt,
        scale=info.scale,
        lq_suffix=options.lq_suffix or "",
        gt_suffix=options.gt_suffix or "",
        max_side=options.max_side,
    )


def _stereo_pairs(chosen: Folders, options: argparse.Namespace, info: RestorerInfo) -> Photos:
    from refusion.data import DATASETS

    wrong = {"--lq-suffix": options.lq_suffix, "--gt-suffix": options.gt_suffix}
    wrong |= {"--max-side": options.max_side}
    for option, value in wrong.items():
        if value is not None:
            raise ConfigError(
                f"{option}: not for the '{info.task}' model, which takes whole stereo pairs "
                "NAME_L and NAME_R, of equal names in both folders"
            )
    return DATASETS["StereoFolder"](lq=chosen.lq, gt=chosen.gt, scale=info.scale)


def _file_set(options: argparse.Namespace, section: NamedComponent, seed: int) -> EvaluationSet:
    from refusion.data import DATASETS

    settings = section.settings
    sources = [*settings.get("folders", ()), *filter(None, map(settings.get, _SOURCES))]
    try:
        dataset = DATASETS[section.type](**_sized(options, section), seed=seed)
    except ConfigError as error:
        raise ConfigError(f"{options.opt}: validation set '{section.name}': {error}") from error
    folder = (options.output or Path()) / section.name
    return EvaluationSet(section.name, dataset, folder, tuple(map(Path, sources)))


def _sized(options: argparse.Namespace, section: NamedComponent) -> dict[str, Any]:
    """Settings with --max-side."""
    from refusion.data import DATASETS

    if not options.max_side:
        return section.settings
    if "max_side" not in inspect.signature(DATASETS[section.type]).parameters:
        raise ConfigError(f"--max-side: photos of a {section.type} cannot be shrunk; leave it out")
    return section.settings | {"max_side": options.max_side}
