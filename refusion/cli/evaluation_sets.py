"""Sets of photos that `refusion test` evaluates on: of folders, or of an options file."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Collection, Iterable
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
    dataset = _AsTold(build(options, info), known, has_target=options.gt is not None)
    return EvaluationSet(str(options.lq), dataset, options.output or Path(), sources)


def file_sets(
    options: argparse.Namespace,
    sections: Iterable[NamedComponent],
    seed: int,
    unmeasured: Collection[str] = (),
) -> list[EvaluationSet]:
    """The sets of an options file.

    Args:
        options: of the command; --max-side is put into every set.
        sections: the sets.
        seed: of their degradations.
        unmeasured: names of those without ground truth, which have no setting `gt`.

    Raises:
        ConfigError: a folder is missing, or a set cannot be used.
    """
    return [
        _file_set(options, section, seed, is_measured=section.name not in unmeasured)
        for section in sections
    ]


class _AsTold:
    """A dataset whose items also say what is known of all photos; without ground truth if need be.

    Photos without it are read as pairs with themselves, so that the same rules apply.
    """

    def __init__(self, photos: Photos, known: Known, *, has_target: bool) -> None:
        self.photos = photos
        told = {"lens": known.lens, "noise_std": known.noise_std}
        self.told = {key: value for key, value in told.items() if value is not None}
        self.has_target = has_target

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.photos[index] | self.told
        return item if self.has_target else {k: v for k, v in item.items() if k != "gt"}


def _pairs(options: argparse.Namespace, info: RestorerInfo) -> Photos:
    from refusion.data import DATASETS

    scale = info.scale if options.gt else 1
    if scale > 1 and options.max_side:
        raise ConfigError(
            f"--max-side: shrinking spoils pairs of sizes 1:{scale} for the '{info.task}' model; "
            "leave it out, or leave out --gt"
        )
    return DATASETS["PairedFolder"](
        lq=options.lq,
        gt=options.gt or options.lq,
        scale=scale,
        lq_suffix=options.lq_suffix or "",
        gt_suffix=(options.gt_suffix if options.gt else options.lq_suffix) or "",
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
    if options.gt is None:
        return DATASETS["StereoFolder"](gt=options.lq, scale=1)
    return DATASETS["StereoFolder"](lq=options.lq, gt=options.gt, scale=info.scale)


def _file_set(
    options: argparse.Namespace, section: NamedComponent, seed: int, *, is_measured: bool
) -> EvaluationSet:
    from refusion.data import DATASETS
    from refusion.restorers.base import NOTHING

    settings = dict(section.settings)
    sources = [*settings.get("folders", ()), *(settings[k] for k in _SOURCES if k in settings)]
    if not is_measured and "lq" in settings:
        settings |= {"gt": settings["lq"], "scale": 1}
        if section.type == "StereoFolder":
            del settings["lq"]  # it makes its own
    try:
        dataset = DATASETS[section.type](**_sized(options, section, settings), seed=seed)
    except ConfigError as error:
        raise ConfigError(f"{options.opt}: validation set '{section.name}': {error}") from error
    told = _AsTold(dataset, NOTHING, has_target=is_measured)
    folder = (options.output or Path()) / section.name
    return EvaluationSet(section.name, told, folder, tuple(map(Path, sources)))


def _sized(
    options: argparse.Namespace, section: NamedComponent, settings: dict[str, Any]
) -> dict[str, Any]:
    """Settings with --max-side."""
    from refusion.data import DATASETS

    if not options.max_side:
        return settings
    if "max_side" not in inspect.signature(DATASETS[section.type]).parameters:
        raise ConfigError(f"--max-side: photos of a {section.type} cannot be shrunk; leave it out")
    return settings | {"max_side": options.max_side}
