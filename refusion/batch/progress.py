"""Progress of a batch, weighted by the pixels of the photos."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from tqdm import tqdm

from refusion.errors import printable
from refusion.images.io import MAX_PIXELS
from refusion.images.size import count_pixels

if TYPE_CHECKING:
    from refusion.batch.plan import Job

_NAME = 60  # characters of a file name in the bar
_OVERHEAD = 200_000  # fixed cost of a photo in pixels, approximately
# Approximate part of a photo's time for each stage: begin and end, 0..1.
_STAGES = {"read": (0.0, 0.02), "encode": (0.02, 0.3), "sample": (0.3, 0.4), "decode": (0.4, 0.95)}
_STAGES |= {"samples": (0.02, 0.95), "write": (0.95, 1.0)}
EVERY_S = 10.0  # seconds between two lines, without a terminal


def job_cost(job: Job, max_pixels: int = MAX_PIXELS) -> int:
    """Estimate the cost of a job in pixels, from the sizes in the headers of its files.

    Args:
        job: the job.
        max_pixels: photos with more pixels are refused, so their size costs nothing.
    """
    sizes = (count_pixels(file.input) for file in job.photos)
    return sum(size * (size <= max_pixels) + _OVERHEAD for size in sizes)


def fraction_done(stage: str, done: int, total: int) -> float:
    """Estimate the completed part of a job, 0..1.

    Args:
        stage: stage of the job, see `JobProgress`.
        done: completed units of the stage.
        total: units of the stage.

    >>> round(fraction_done("encode", 1, 2), 3)
    0.16
    """
    begin, end = _STAGES.get(stage, (0.0, 1.0))
    return begin + (end - begin) * done / total


class BatchBar:
    """Progress bar on stderr with the estimated remaining time.

    Without a terminal, such as in a log file, it writes a line every `EVERY_S` seconds instead.

    Args:
        weights: cost of each job, see `job_cost`; 0 for a job that will be skipped.
        quiet: show nothing.
    """

    def __init__(self, weights: Sequence[int], *, quiet: bool) -> None:
        self._weights = weights
        self._before = [0, *accumulate(weights)]
        self._bar = tqdm(
            total=self._before[-1],
            disable=True if quiet else None,
            smoothing=0,  # the stages differ in speed, so use the mean speed
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )
        self._writes_lines = self._bar.disable and not quiet
        self._begun = self._written = time.monotonic()

    def __enter__(self) -> BatchBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, number: int, job: Job, stage: str, done: int, total: int) -> None:
        """Show the progress of a job; arguments as in `JobProgress`."""
        name = printable(job.photos[0].input.name, _NAME)
        title = f"{number + 1}/{len(self._weights)} {name}"
        cost = self._before[number] + self._weights[number] * fraction_done(stage, done, total)
        if self._writes_lines:
            self._write_line(title, stage, cost / max(1, self._before[-1]))
        self._bar.set_description_str(title, refresh=False)
        self._bar.set_postfix_str(f"{stage} {done}/{total}", refresh=False)
        self._bar.update(cost - self._bar.n)

    def _write_line(self, title: str, stage: str, share: float) -> None:
        """Write a line if the last one is old enough; `share` is the completed part, 0..1."""
        now = time.monotonic()
        if now - self._written < EVERY_S:
            return
        self._written, left = now, ""
        if share > 0:
            seconds = (now - self._begun) * (1 - share) / share
            left = f", {seconds:.0f} s left" if seconds < 120 else f", {seconds / 60:.0f} min left"
        line = f"refusion: {title}, {stage}: {100 * share:.0f} % of all photos{left}\n"
        with contextlib.suppress(OSError, ValueError):  # a full disk must not stop a photo
            sys.stderr.write(line)
            sys.stderr.flush()
