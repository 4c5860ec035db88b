"""Sets of photos that `refusion test` evaluates on: of folders, or of an options file."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.config import NamedComponent
    from refusion.evaluation import Photos
    from refusion.restorers.base import Known, RestorerInfo

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


def folder_set(options: argparse.Namespace, info: RestorerInfo, known: Known) -> EvaluationSet:
    """The photos of --lq and, where there is ground truth, --gt, as the restorer needs them.

    Args:
        options: of the command.
        info: of the restorer.
        known: what it is told of every photo.

    Raises:
        ConfigError: a folder or a partner is missing, or an option does not go with the model.
    """
    sources = (options.lq,) if options.gt is None else (options.lq, options.gt)
    build = _stereo_pairs if info.views == 2 else _pairs
    dataset = _AsTold(build(options, info), known)
    return EvaluationSet(str(options.lq), dataset, options.output or Path(), sources)


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


class _AsTold:
    """A dataset whose items also say what is known of all photos."""

    def __init__(self, photos: Photos, known: Known) -> None:
        self.photos = photos
        told = {"lens": known.lens, "noise_std": known.noise_std}
        self.told = {key: value for key, value in told.items() if value is not None}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.photos[index] | self.told


def _pairs(options: argparse.Namespace, info: RestorerInfo) -> Photos:
    from refusion.data import DATASETS

    if options.gt and info.scale > 1 and options.max_side:
        raise ConfigError(
            f"--max-side: shrinking spoils pairs of sizes 1:{info.scale} for the '{info.task}' "
            "model; leave it out, or leave out --gt"
        )
    return DATASETS["PairedFolder"](
        lq=options.lq,
        gt=options.gt,
        scale=info.scale,
        lq_suffix=options.lq_suffix or "",
        gt_suffix=options.gt_suffix or "",
        max_side=options.max_side,
    )


def _stereo_pairs(options: argparse.Namespace, info: RestorerInfo) -> Photos:
    from refusion.data import DATASETS

    wrong = {"--lq-suffix": options.lq_suffix, "--gt-suffix": options.gt_suffix}
    wrong |= {"--max-side": options.max_side}
    for option, value in wrong.items():
        if value is not None:
            raise ConfigError(
                f"{option}: not for the '{info.task}' model, which takes whole stereo pairs "
                "NAME_L and NAME_R, of equal names in --lq and --gt"
            )
    return DATASETS["StereoFolder"](lq=options.lq, gt=options.gt, scale=info.scale)


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
