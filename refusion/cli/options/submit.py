"""`refusion test --submit`: an entry to a challenge made of the results of a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.errors import ConfigError
from refusion.evaluation.result_files import ResultFiles, files_at
from refusion.evaluation.sets import EvaluationSet
from refusion.submission.tracks import TRACKS

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.evaluation.scoring import Evaluation
    from refusion.restorers.base import RestorerInfo


def add_submit_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options of a challenge entry."""
    add(
        "--submit",
        type=Path,
        metavar="FILE.zip",
        help="write the results as an entry (needs --output and --track)",
    )
    add("--track", choices=TRACKS, help="whose rules the entry keeps")
    add(
        "--extra-data",
        action="store_true",
        help="state that the model saw data beside the track's own",
    )
    add("--description", metavar="TEXT", help="last line of the entry's readme")


def check_submit_options(options: argparse.Namespace) -> None:
    """Refuse what no entry can be made of.

    Raises:
        ConfigError: an option is missing, goes with no entry, or contradicts the track's rules.
    """
    if not options.submit:
        for key in ("track", "description", "extra_data"):
            if getattr(options, key):
                raise ConfigError(f"--{key.replace('_', '-')}: needs --submit")
        return
    for key in ("output", "track", "description"):
        if not getattr(options, key):
            raise ConfigError(f"--submit: needs --{key}")
    for key in ("limit", "max_side", "lq_suffix"):
        if getattr(options, key):
            raise ConfigError(
                f"--{key.replace('_', '-')}: an entry holds every photo at its size under its name"
            )
    if options.extra_data and not TRACKS[options.track].extra_data:
        raise ConfigError(f"--extra-data: the track '{options.track}' allows no extra data")


def check_entry(
    options: argparse.Namespace, info: RestorerInfo, sets: Sequence[EvaluationSet]
) -> None:
    """Refuse, before photos are restored, what would be no entry afterwards.

    Raises:
        ConfigError: there is more than one set, two photos ask for one name, or the model's outputs
            have another size than the track's.
        ImageError: a photo cannot be read.
    """
    from refusion.submission.check import expected_outputs

    if not options.submit:
        return
    if len(sets) != 1:
        raise ConfigError(f"--submit: expected one set of photos, got {len(sets)}")
    track = TRACKS[options.track]
    if info.scale != track.scale:
        raise ConfigError(
            f"--track: outputs of '{options.track}' have {track.scale} times the size of their "
            f"inputs, those of the '{info.task}' model {info.scale} times"
        )
    expected_outputs(sets[0].sources[0], track)


def submit(
    options: argparse.Namespace,
    info: RestorerInfo,
    results: Sequence[tuple[EvaluationSet, Evaluation]],
) -> None:
    """Write the entry.

    Raises:
        ConfigError: the entry would break a rule of the track.
    """
    from refusion.submission.pack import Facts, write_submission

    ((chosen, evaluation),) = results
    files = ResultFiles(chosen.folder)
    found = [file for row in evaluation.rows for file in files_at(files.next_path(row.name))]
    facts = Facts(
        runtime=evaluation.mean.seconds / info.views,
        is_cpu=info.device == "cpu",
        extra_data=options.extra_data,
        description=options.description,
    )
    named = {file.stem: file for file in found}
    write_submission(options.submit, named, chosen.sources[0], TRACKS[options.track], facts)
