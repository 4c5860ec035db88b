"""`refusion check-submission`: checks a challenge entry against the rules before the upload."""

from __future__ import annotations

import argparse
from pathlib import Path

from refusion.cli.common import Parser, show
from refusion.submission.tracks import TRACKS

EXIT_FAULTS = 1
_SHOWN = 100  # faults


def run(argv: list[str]) -> int:
    """Check the zip file named by the arguments and list its faults.

    Returns:
        0 without faults, 1 with faults.

    Raises:
        ConfigError: the inputs cannot be used.
    """
    options = build_parser().parse_args(argv)
    from refusion.submission.check import check_submission

    faults = check_submission(options.archive, options.inputs, TRACKS[options.track])
    show(*faults[:_SHOWN])
    if len(faults) > _SHOWN:
        show(f"and {len(faults) - _SHOWN} more faults")
    summary = {0: "no fault found", 1: "1 fault"}.get(len(faults), f"{len(faults)} faults")
    show(f"{options.archive}: {summary}, track {options.track}")
    return EXIT_FAULTS if faults else 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion check-submission",
        description="Check a zip file against the rules of a challenge track. The file need not be "
        "trusted; nothing is extracted.",
        epilog="Exit code: 0 no fault, 1 faults, 2 wrong usage or unusable inputs.",
    )
    parser.add_argument("archive", type=Path, metavar="ZIP", help="zip file of the entry")
    parser.add_argument(
        "--inputs",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the track's degraded photos",
    )
    parser.add_argument("--track", choices=TRACKS, required=True, help="track whose rules apply")
    return parser
