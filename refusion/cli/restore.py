"""`refusion restore`: photos in, restored photos out."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.model_options import (
    add_model_options,
    check_sampler,
    chosen_checkpoint,
    count,
    known_of_photos,
    warnings_on_stderr,
)

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.inference.jobs import Job, Outcome

EXIT_SOME_FAILED = 1
DEFAULT_INPUT = "examples"
_STAGES = {"read": (0.0, 0.02), "encode": (0.02, 0.3), "sample": (0.3, 0.4)}
_STAGES |= {"decode": (0.4, 0.95), "write": (0.95, 1.0)}  # shares of a photo's time, roughly


def run(argv: list[str]) -> int:
    """Restore the photos that the arguments name.

    Returns:
        0 if all were restored, 1 if some failed (each is named on stderr, the others are done).

    Raises:
        RefusionError: nothing could be started: no input, no weights, a wrong option.
    """
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.input is None and not Path(DEFAULT_INPUT).is_dir():
        parser.error("--input: name the photos or folders of photos to restore")
    from refusion.inference.jobs import RestoreOptions, plan_jobs, run_jobs
    from refusion.restorers import load_restorer

    with warnings_on_stderr():
        check_sampler(options.sampler)
        checkpoint = chosen_checkpoint(options)
        restorer = load_restorer(checkpoint, device=options.device, precision=options.precision)
        known = known_of_photos(options, restorer.info)
        jobs = plan_jobs(
            options.input or [DEFAULT_INPUT],
            options.output,
            views=restorer.info.views,
            recursive=options.recursive,
            compare=options.compare,
        )
        settings = RestoreOptions(
            steps=options.steps,
            sampler=options.sampler,
            seed=options.seed,
            tile=options.tile,
            known=known,
            max_pixels=options.max_pixels or RestoreOptions.max_pixels,
        )
        start = time.monotonic()
        with _Bar(len(jobs), quiet=options.quiet) as bar:
            outcomes = run_jobs(jobs, restorer, settings, bar.update)
    return _report(outcomes, time.monotonic() - start, quiet=options.quiet)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="refusion restore",
        description="Restore photos of any size: JPEG, PNG, TIFF and WebP. Stereo models take "
        "pairs NAME_L and NAME_R, or two files, left then right.",
        epilog="Exit code: 0 all restored, 1 some photos failed, 2 wrong usage.",
    )
    add = parser.add_argument
    add(
        "--input",
        nargs="+",
        metavar="FILE|DIR",
        help=f"photos, folders of photos (default: the folder {DEFAULT_INPUT}, if there is one)",
    )
    add(
        "--output",
        metavar="FILE|DIR",
        help="folder for the results (default: results), or a file if the input is one file",
    )
    add_model_options(parser)
    add("--compare", action="store_true", help="also write NAME_compare.png: input | result")
    add("--max-pixels", type=count, metavar="N", help="refuse larger photos")
    add(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="search sub-folders (default: yes)",
    )
    add("--quiet", action="store_true", help="no progress bar, no summary; errors are shown")
    return parser


def _report(outcomes: list[Outcome], seconds: float, *, quiet: bool) -> int:
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    done = [file for outcome in outcomes if outcome.error is None for file in outcome.job.photos]
    for outcome in failed:
        sys.stderr.write(f"refusion: failed: {outcome.error}\n")
    if not quiet:
        if failed:
            missed = sum(len(outcome.job.photos) for outcome in failed)
            sys.stderr.write(f"refusion: {missed} of {missed + len(done)} photos failed\n")
        photos = "1 photo" if len(done) == 1 else f"{len(done)} photos"
        if done:
            place = _place([file.output for file in done])
            sys.stdout.write(f"{photos} restored in {seconds:.1f} s: {place}\n")
        for file in done:
            if file.compare is not None:
                sys.stdout.write(f"before and after: {file.compare}\n")
    return EXIT_SOME_FAILED if failed else 0


def _place(files: list[Path]) -> str:
    """The file, or the innermost folder that holds all of them."""
    if len(files) == 1:
        return str(files[0])
    shared = files[0].parent
    while not all(file.is_relative_to(shared) for file in files):
        shared = shared.parent
    return f"{shared}/"


class _Bar:
    """Progress of a whole batch on stderr, if that is a terminal."""

    def __init__(self, jobs: int, *, quiet: bool) -> None:
        from tqdm import tqdm

        self.jobs = jobs
        self.bar = tqdm(
            total=jobs,
            disable=True if quiet else None,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, number: int, job: Job, stage: str, done: int, total: int) -> None:
        """See `JobProgress`."""
        begin, end = _STAGES.get(stage, (0.0, 1.0))
        name = job.photos[0].input.name
        self.bar.set_description_str(f"{number + 1}/{self.jobs} {name}", refresh=False)
        self.bar.set_postfix_str(f"{stage} {done}/{total}", refresh=False)
        self.bar.update(number + begin + (end - begin) * done / total - self.bar.n)
