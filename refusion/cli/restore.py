"""`refusion restore`: photos in, restored photos out."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.inference.jobs import Job, Outcome
    from refusion.restorers.base import Restorer

DEFAULT_TASK = "dehaze"
EXIT_SOME_FAILED = 1
_STAGES = {"read": (0.0, 0.02), "encode": (0.02, 0.3), "sample": (0.3, 0.4)}
_STAGES |= {"decode": (0.4, 0.95), "write": (0.95, 1.0)}  # shares of a photo's time, roughly


def run(argv: list[str]) -> int:
    """Restore the photos that the arguments name.

    Returns:
        0 if all were restored, 1 if some failed (each is named on stderr, the others are done).

    Raises:
        RefusionError: nothing could be started: no input, no weights, a wrong option.
    """
    options = _parser().parse_args(argv)
    from refusion.inference.jobs import RestoreOptions, plan_jobs, run_jobs

    with _warnings_on_stderr():
        jobs = plan_jobs(
            options.input, options.output, recursive=options.recursive, compare=options.compare
        )
        _check_sampler(options.sampler)
        restorer = _load(options)
        settings = RestoreOptions(
            steps=options.steps,
            sampler=options.sampler,
            seed=options.seed,
            tile=options.tile,
            max_pixels=options.max_pixels or RestoreOptions.max_pixels,
        )
        start = time.monotonic()
        with _Bar(len(jobs), quiet=options.quiet) as bar:
            outcomes = run_jobs(jobs, restorer, settings, bar.update)
    return _report(outcomes, time.monotonic() - start, quiet=options.quiet)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refusion restore",
        description="Restore photos of any size: JPEG, PNG, TIFF and WebP.",
        epilog="Exit code: 0 all restored, 1 some photos failed, 2 wrong usage.",
    )
    add = parser.add_argument
    add("--input", nargs="+", required=True, metavar="FILE|DIR", help="photos, folders of photos")
    add(
        "--output",
        metavar="FILE|DIR",
        help="folder for the results (default: results), or a file if the input is one file",
    )
    add("--task", help=f"use the default weights of this task (default: {DEFAULT_TASK})")
    add("--weights", type=Path, metavar="FILE", help="use these weights, a .safetensors file")
    add("--steps", type=_count, metavar="N", help="sampling steps (default: the model's)")
    add("--sampler", metavar="NAME", help="posterior, ode or euler (default: the model's)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the noise (default: 0)")
    add(
        "--tile",
        type=_tile,
        default="auto",
        metavar="PX|auto",
        help="side of the tiles; smaller needs less memory, and with a latent model does not "
        "change the result (default: auto)",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda", help="default: a GPU if there is one")
    add(
        "--precision",
        default="auto",
        metavar="auto|fp32|bf16|fp16",
        help="number format of the networks (default: bf16 where the hardware is fast at it)",
    )
    add("--compare", action="store_true", help="also write NAME_compare.png: input | result")
    add("--max-pixels", type=_count, metavar="N", help="refuse larger photos")
    add(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="search sub-folders (default: yes)",
    )
    add("--quiet", action="store_true", help="no progress bar, no summary; errors are shown")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


def _tile(text: str) -> int | str:
    return text if text == "auto" else _count(text)


def _check_sampler(name: str | None) -> None:
    """Refuse a wrong name before a model is loaded and a photo decoded."""
    from refusion.errors import ConfigError, suggest
    from refusion.sde import SAMPLERS

    if name is not None and name not in SAMPLERS:
        raise ConfigError(f"--sampler: unknown sampler {name!r}{suggest(name, SAMPLERS)}")


def _load(options: argparse.Namespace) -> Restorer:
    from refusion.restorers import load_restorer

    chosen = options.weights or options.task or DEFAULT_TASK
    restorer = load_restorer(chosen, device=options.device, precision=options.precision)
    task = restorer.info.task
    if options.weights and options.task not in (None, task):
        logging.getLogger(__name__).warning(
            "%s was trained for the task '%s', not '%s'", options.weights, task, options.task
        )
    return restorer


def _report(outcomes: list[Outcome], seconds: float, *, quiet: bool) -> int:
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    done = [outcome.job.output for outcome in outcomes if outcome.error is None]
    for error in failed:
        sys.stderr.write(f"refusion: failed: {error}\n")
    if not quiet:
        if failed:
            sys.stderr.write(f"refusion: {len(failed)} of {len(outcomes)} photos failed\n")
        photos = "1 photo" if len(done) == 1 else f"{len(done)} photos"
        if done:
            sys.stdout.write(f"{photos} restored in {seconds:.1f} s: {_place(done)}\n")
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

    def __init__(self, photos: int, *, quiet: bool) -> None:
        from tqdm import tqdm

        self.photos = photos
        self.bar = tqdm(
            total=photos,
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
        self.bar.set_description_str(f"{number + 1}/{self.photos} {job.input.name}", refresh=False)
        self.bar.set_postfix_str(f"{stage} {done}/{total}", refresh=False)
        self.bar.update(number + begin + (end - begin) * done / total - self.bar.n)


class _StderrLines(logging.Handler):
    """Each warning as one line above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        from tqdm import tqdm

        line = " ".join(record.getMessage().split())
        tqdm.write(f"refusion: {record.levelname.lower()}: {line}", file=sys.stderr)


@contextlib.contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    handler, logger = _StderrLines(logging.WARNING), logging.getLogger("refusion")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
