"""Progress of a batch, weighted by the pixels of the photos."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from tqdm import tqdm

from refusion.errors import printable
from refusion.images.size import count_pixels

if TYPE_CHECKING:
    from refusion.batch.plan import Job

_NAME = 60  # characters of a file name in the bar
_OVERHEAD = 200_000  # fixed cost of a photo in pixels, approximately
# Approximate part of a photo's time for each stage: begin and end, 0..1.
_STAGES = {"read": (0.0, 0.02), "encode": (0.02, 0.3), "sample": (0.3, 0.4), "decode": (0.4, 0.95)}
_STAGES |= {"samples": (0.02, 0.95), "write": (0.95, 1.0)}


def job_cost(job: Job) -> int:
    """Estimate the cost of a job in pixels, from the sizes in the headers of its files."""
    return sum(count_pixels(file.input) + _OVERHEAD for file in job.photos)


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
    """Progress bar on stderr with the estimated remaining time; shown only on a terminal.

    Args:
        weights: cost of each job, see `job_cost`; 0 for a job that will be skipped.
        quiet: show no bar.
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

    def __enter__(self) -> BatchBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, number: int, job: Job, stage: str, done: int, total: int) -> None:
        """Show the progress of a job; arguments as in `JobProgress`."""
        name = printable(job.photos[0].input.name, _NAME)
        self._bar.set_description_str(f"{number + 1}/{len(self._weights)} {name}", refresh=False)
        self._bar.set_postfix_str(f"{stage} {done}/{total}", refresh=False)
        share = fraction_done(stage, done, total)
        self._bar.update(self._before[number] + self._weights[number] * share - self._bar.n)
