"""An entry to a challenge, made of the results of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.errors import ConfigError
from refusion.evaluation.result_files import written_files
from refusion.evaluation.sets import EvaluationSet
from refusion.submission.tracks import TRACKS

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from refusion.evaluation.scoring import Evaluation
    from refusion.restorers.base import RestorerInfo


@dataclass(frozen=True)
class Entry:
    """A challenge entry to write.

    Attributes:
        path: the zip file.
        track: key of `TRACKS`.
        description: last line of the readme.
        extra_data: whether the model was trained on data beside the track's own.
    """

    path: Path
    track: str
    description: str
    extra_data: bool = False


def check_entry(entry: Entry, info: RestorerInfo, sets: Sequence[EvaluationSet]) -> None:
    """Refuse, before photos are restored, an entry that the track would not accept.

    Args:
        entry: what is to be written.
        info: of the restorer.
        sets: all sets of the run.

    Raises:
        ConfigError: there is more than one set, two photos have the same output name, or the
            model's outputs have another size than the track's.
        ImageError: a photo cannot be read.
    """
    from refusion.submission.check import expected_outputs

    if len(sets) != 1:
        raise ConfigError(f"--submit: expected one set of photos, got {len(sets)}")
    track = TRACKS[entry.track]
    if info.scale != track.scale:
        raise ConfigError(
            f"--track: outputs of '{entry.track}' have {track.scale} times the size of their "
            f"inputs, those of the '{info.task}' model {info.scale} times"
        )
    expected_outputs(sets[0].sources[0], track)


def write_entry(
    entry: Entry, info: RestorerInfo, chosen: EvaluationSet, evaluation: Evaluation
) -> None:
    """Write the zip file.

    Args:
        entry: what is to be written.
        info: of the restorer.
        chosen: the set; its results are read from its folder.
        evaluation: its scores, for the run time.

    Raises:
        ConfigError: the entry would break a rule of the track, or cannot be written.
    """
    from refusion.submission.pack import Facts, write_submission

    names = [row.name for row in evaluation.rows]
    files = [file for views in written_files(chosen.folder, names) for file in views]
    facts = Facts(
        runtime=evaluation.mean.seconds / info.views,
        is_cpu=info.device == "cpu",
        extra_data=entry.extra_data,
        description=entry.description,
    )
    named = {file.stem: file for file in files}
    write_submission(entry.path, named, chosen.sources[0], TRACKS[entry.track], facts)
