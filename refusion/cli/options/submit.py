"""Options of a challenge entry: `refusion test --submit`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from refusion.errors import ConfigError
from refusion.evaluation.entry import Entry
from refusion.submission.tracks import TRACKS


def add_submit_options(add: Callable[..., argparse.Action]) -> None:
    """Add the options of a challenge entry."""
    add(
        "--submit",
        type=Path,
        metavar="FILE.zip",
        help="write the results as an entry (needs --output, --track and --description)",
    )
    add("--track", choices=TRACKS, help="challenge track whose rules the entry must follow")
    add(
        "--extra-data",
        action="store_true",
        help="state that the model was trained on data beside the track's own",
    )
    add("--description", metavar="TEXT", help="last line of the entry's readme")


def entry_of(options: argparse.Namespace) -> Entry | None:
    """The entry that the options describe; None without --submit.

    Raises:
        ConfigError: an option is missing, needs --submit, or breaks a rule of the track.
    """
    if not options.submit:
        for key in ("track", "description", "extra_data"):
            if getattr(options, key):
                raise ConfigError(f"--{key.replace('_', '-')}: needs --submit")
        return None
    for key in ("output", "track", "description"):
        if not getattr(options, key):
            raise ConfigError(f"--submit: needs --{key}")
    for key in ("limit", "max_side", "lq_suffix"):
        if getattr(options, key):
            raise ConfigError(
                f"--{key.replace('_', '-')}: not possible with --submit, as an entry holds every "
                "photo at its size under its name; leave it out"
            )
    if options.extra_data and not TRACKS[options.track].extra_data:
        raise ConfigError(f"--extra-data: the track '{options.track}' allows no extra data")
    return Entry(options.submit, options.track, options.description, options.extra_data)
