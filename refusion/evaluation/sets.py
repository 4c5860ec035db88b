"""Sets of photos that `refusion test` evaluates on: from folders, or from an options file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from refusion.config.parser import NamedComponent
    from refusion.evaluation.scoring import Photos
    from refusion.restorers.base import Conditions, RestorerInfo

_SOURCES = ("lq", "gt", "folder")  # settings that name one folder; `folders` names several


@dataclass(frozen=True)
class EvaluationSet:
    """Photos to evaluate on.

    Attributes:
        name: shown above the table.
        dataset: whole photos.
        folder: where the restored photos are written.
        sources: folders that the photos are read from.
        settings: what the dataset was built with, plain values and dataclasses.
    """

    name: str
    dataset: Photos
    folder: Path
    sources: tuple[Path, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Folders:
    """Folders to evaluate on, as the user names them.

    Attributes:
        name: of the set.
        lq: degraded photos.
        gt: ground truth; None for none.
        folder: for the restored photos, relative to the folder of the run.
        lq_suffix: end of the names in `lq`, as '_hazy' of '01_hazy.png'; None for no suffix.
        gt_suffix: end of the names in `gt`, as '_GT' of '01_GT.png'; None for no suffix.
    """

    name: str
    lq: Path
    gt: Path | None = None
    folder: str = ""
    lq_suffix: str | None = None
    gt_suffix: str | None = None


def folder_set(
    chosen: Folders,
    info: RestorerInfo,
    conditions: Conditions,
    *,
    output: Path | None = None,
    max_side: int | None = None,
) -> EvaluationSet:
    """Photos of folders and, if there is one, their ground truth, as the restorer needs them.

    Args:
        chosen: the folders.
        info: of the restorer.
        conditions: given to the restorer with every photo.
        output: the restored photos are written below this folder; None if they are not written.
        max_side: longest side in pixels; larger photos are shrunk to it. None for full size.

    Raises:
        ConfigError: a folder or the partner of a photo is missing, or an option cannot be used
            with the model.
    """
    sources = (chosen.lq,) if chosen.gt is None else (chosen.lq, chosen.gt)
    build = _stereo_pairs if info.views == 2 else _pairs
    dataset = _WithConditions(build(chosen, info, max_side), conditions)
    folder = (output or Path()) / chosen.folder
    return EvaluationSet(chosen.name, dataset, folder, sources, vars(chosen))


def file_sets(
    sections: Iterable[NamedComponent],
    seed: int,
    file: Path,
    *,
    output: Path | None = None,
    max_side: int | None = None,
) -> list[EvaluationSet]:
    """The sets of an options file.

    Args:
        sections: datasets of the file.
        seed: of their degradations.
        file: the options file, named in errors.
        output: as for `folder_set`.
        max_side: as for `folder_set`; for every set.

    Raises:
        ConfigError: a folder is missing, or a set cannot be used.
    """
    from refusion.data import DATASETS

    sets = []
    for section in sections:
        settings = section.settings
        sources = [*settings.get("folders", ()), *filter(None, map(settings.get, _SOURCES))]
        try:
            dataset = DATASETS[section.type](**_sized(section, max_side), seed=seed)
        except ConfigError as error:
            raise ConfigError(f"{file}: validation set '{section.name}': {error}") from error
        folder = (output or Path()) / section.name
        built = {"section": section, "seed": seed}
        sets.append(EvaluationSet(section.name, dataset, folder, tuple(map(Path, sources)), built))
    return sets


class _WithConditions:
    """A dataset whose items also have the conditions that are the same for all photos."""

    def __init__(self, photos: Photos, conditions: Conditions) -> None:
        self.photos = photos
        given = {"lens": conditions.lens, "noise_std": conditions.noise_std}
        self.conditions = {key: value for key, value in given.items() if value is not None}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.photos[index] | self.conditions


def _pairs(chosen: Folders, info: RestorerInfo, max_side: int | None) -> Photos:
    from refusion.data import DATASETS

    if chosen.gt and info.scale > 1 and max_side:
        raise ConfigError(
            f"--max-side: the '{info.task}' model needs pairs of sizes 1:{info.scale}, which "
            "shrinking would change; leave it out, or leave out the ground truth"
        )
    return DATASETS["PairedFolder"](
        lq=chosen.lq,
        gt=chosen.gt,
        scale=info.scale,
        lq_suffix=chosen.lq_suffix or "",
        gt_suffix=chosen.gt_suffix or "",
        max_side=max_side,
    )


def _stereo_pairs(chosen: Folders, info: RestorerInfo, max_side: int | None) -> Photos:
    from refusion.data import DATASETS

    refused = {"--lq-suffix": chosen.lq_suffix, "--gt-suffix": chosen.gt_suffix}
    refused |= {"--max-side": max_side}
    for option, value in refused.items():
        if value is not None:
            raise ConfigError(
                f"{option}: not for the '{info.task}' model, which takes whole stereo pairs "
                "NAME_L and NAME_R, of equal names in both folders; leave it out"
            )
    return DATASETS["StereoFolder"](lq=chosen.lq, gt=chosen.gt, scale=info.scale)


def _sized(section: NamedComponent, max_side: int | None) -> Mapping[str, Any]:
    """Settings with --max-side."""
    from refusion.data import DATASETS

    if not max_side:
        return section.settings
    if "max_side" not in inspect.signature(DATASETS[section.type]).parameters:
        raise ConfigError(f"--max-side: photos of a {section.type} cannot be shrunk; leave it out")
    return section.settings | {"max_side": max_side}
