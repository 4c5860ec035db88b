"""Runs a batch in one or several processes, with progress bar, log and summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from refusion.batch.jobs import Outcome, run_jobs
from refusion.batch.log import BatchLog, part_of_log
from refusion.batch.options import RestoreOptions, sampling_warning
from refusion.batch.plan import Job, split_jobs
from refusion.batch.progress import BatchBar, job_cost
from refusion.cli.common import EXIT_INTERRUPTED, complain, show
from refusion.cli.summary import notes, photos_text
from refusion.devices.processes import World
from refusion.errors import ConfigError
from refusion.restorers import Restorer

logger = logging.getLogger(__name__)

EXIT_INCOMPLETE = 1


@dataclass(frozen=True)
class Reporting:
    """Settings of the output about a batch.

    Attributes:
        quiet: show no progress bar and no summary; errors are shown.
        log: file of the log; None for none.
        head: entries of the log for the whole batch.
    """

    quiet: bool
    log: Path | None
    head: Mapping[str, Any]


def run_batch(
    jobs: Sequence[Job],
    restorer: Restorer,
    settings: RestoreOptions,
    world: World,
    reporting: Reporting,
) -> int:
    """Restore this process's share of the jobs; the first process reports for all.

    Args:
        jobs: jobs from `plan_jobs`.
        restorer: the model.
        settings: options for all photos.
        world: rank of this process and number of processes.
        reporting: settings of the output.

    Returns:
        0 if no photo failed, 1 if some failed or the log is not complete, 130 after an interrupt.

    Raises:
        ConfigError: an option is wrong, so that every photo would fail.
    """
    start = time.monotonic()
    warning = sampling_warning(restorer.info, settings)
    if world.is_main and warning:
        logger.warning("--%s", warning)
    jobs, weights = _shared_plan(jobs, settings, world)
    own = split_jobs(weights, world.size)[world.rank]
    log, done, writing = _own_log(reporting, world), [], _LogWriting()

    def finished(outcome: Outcome) -> None:
        done.append(outcome)
        if log is not None:
            with writing:
                log.add(outcome)

    try:
        is_silent = reporting.quiet or not world.is_main
        with BatchBar([weights[number] for number in own], quiet=is_silent) as bar:
            run_jobs([jobs[number] for number in own], restorer, settings, bar.update, finished)
        outcomes = _merged(own, done, world)
    except KeyboardInterrupt:
        if world.is_main:
            _report_interrupt(done, len(own))
            _report(done, time.monotonic() - start, restorer.info.task, quiet=reporting.quiet)
        return EXIT_INTERRUPTED
    if log is not None and world.size > 1:
        if world.is_main:
            with writing:
                BatchLog(reporting.log, reporting.head).add(*outcomes)
        if world.gathered(writing.is_complete)[0]:
            log.path.unlink(missing_ok=True)
    if not world.is_main:
        return 0
    seconds = time.monotonic() - start
    code = _report(outcomes, seconds, restorer.info.task, quiet=reporting.quiet)
    return code if writing.is_complete else EXIT_INCOMPLETE


class _LogWriting:
    """Context in which a log is written; an error is one warning and does not stop the batch.

    The log is written completely after every photo, so a later version can be complete again.

    Attributes:
        is_complete: whether the last version was written.
    """

    def __init__(self) -> None:
        self.is_complete, self._has_warned = True, False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.is_complete = error is None
        if not isinstance(error, ConfigError):
            return False
        if not self._has_warned:
            logger.warning("%s; the photos are restored without it", error)
        self._has_warned = True
        return True


def _shared_plan(
    jobs: Sequence[Job], settings: RestoreOptions, world: World
) -> tuple[Sequence[Job], list[int]]:
    """Jobs and weights of the main process, so that all processes divide the same list."""
    plan = None
    if world.is_main:
        skip, most = settings.skip_existing, settings.max_pixels
        plan = jobs, [0 if skip and job.is_done else job_cost(job, most) for job in jobs]
    return world.gathered(plan)[0]


def _own_log(reporting: Reporting, world: World) -> BatchLog | None:
    """The log of this process; with several processes a file of its own."""
    if reporting.log is None:
        return None
    path = reporting.log if world.size == 1 else part_of_log(reporting.log, world.rank)
    return BatchLog(path, reporting.head)


def _merged(own: Sequence[int], done: Sequence[Outcome], world: World) -> list[Outcome]:
    """Outcomes of all processes, in the order of the jobs."""
    parts = world.gathered(list(zip(own, done, strict=True)))
    numbered = [pair for part in parts for pair in part]
    return [outcome for _, outcome in sorted(numbered, key=lambda pair: pair[0])]


def _report_interrupt(done: Sequence[Outcome], jobs: int) -> None:
    complain(
        f"interrupted after {len(done)} of {jobs}; the same command with --skip-existing restores "
        "the others"
    )


def _report(outcomes: Sequence[Outcome], seconds: float, task: str, *, quiet: bool) -> int:
    """Write errors and the summary; returns the exit code."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    fine = [outcome for outcome in outcomes if outcome.error is None]
    for outcome in failed:
        complain(f"failed: {outcome.error}")
    if not quiet:
        if failed:
            missed, photos = (_count(part) for part in (failed, outcomes))
            complain(f"{missed} of {photos} photos failed")
        _summarize(
            [outcome for outcome in fine if not outcome.skipped],
            _count([outcome for outcome in fine if outcome.skipped]),
            seconds,
            task,
        )
    return EXIT_INCOMPLETE if failed else 0


def _summarize(restored: Sequence[Outcome], skipped: int, seconds: float, task: str) -> None:
    files = [file for outcome in restored for file in outcome.job.photos]
    if files:
        place = _place([file.output for file in files])
        show(f"{photos_text(len(files))} restored in {seconds:.1f} s: {place}")
    levels = [outcome.noise_level for outcome in restored if outcome.noise_level is not None]
    if levels:
        ends = dict.fromkeys(f"{level:.1f}" for level in (min(levels), max(levels)))
        show(f"estimated noise level: {' to '.join(ends)} of 255")
    unchanged = _count([outcome for outcome in restored if outcome.unchanged])
    show(*notes(unchanged, skipped, task))
    for file in files:
        if file.compare is not None:
            show(f"before and after: {file.compare}")
        if file.uncertainty is not None:
            show(f"uncertainty: {file.uncertainty}")
        if file.haze_map is not None:
            show(f"haze map: {file.haze_map}")


def _count(outcomes: Sequence[Outcome]) -> int:
    return sum(len(outcome.job.photos) for outcome in outcomes)


def _place(files: list[Path]) -> str:
    """The single file, or the innermost folder that contains all files."""
    if len(files) == 1:
        return str(files[0])
    shared = files[0].parent
    while not all(file.is_relative_to(shared) for file in files):
        shared = shared.parent
    return f"{shared}/"
