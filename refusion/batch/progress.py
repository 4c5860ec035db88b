"""Progress of a batch by its pixels: a large photo takes longer than a small one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from tqdm import tqdm

from refusion.images.size import count_pixels

if TYPE_CHECKING:
    from refusion.batch.plan import Job

_OVERHEAD = 200_000  # pixels that take as long as what every photo costs whatever its size, roughly
# Shares of a photo's time, roughly.
_STAGES = {"read": (0.0, 0.02), "encode": (0.02, 0.3), "sample": (0.3, 0.4), "decode": (0.4, 0.95)}
_STAGES |= {"draw": (0.02, 0.95), "write": (0.95, 1.0)}


def job_cost(job: Job) -> int:
    """How long a job takes, in units of a pixel's time, by the sizes in the files' headers."""
    return sum(count_pixels(file.input) + _OVERHEAD for file in job.photos)


def fraction_done(stage: str, done: int, total: int) -> float:
    """Which share of a job's time is over, 0..1, when ``done`` of a stage's ``total`` are.

    >>> round(fraction_done("encode", 1, 2), 3)
    0.16
    """
    begin, end = _STAGES.get(stage, (0.0, 1.0))
    return begin + (end - begin) * done / total


class BatchBar:
    """Bar on stderr, if that is a terminal, with the time that the rest of the batch will take.

    Args:
        weights: of the jobs, in their order; 0 for one that will be skipped.
        quiet: show nothing.
    """

    def __init__(self, weights: Sequence[int], *, quiet: bool) -> None:
        self._weights = weights
        self._before = [0, *accumulate(weights)]
        self._bar = tqdm(
            total=self._before[-1],
            disable=True if quiet else None,
            smoothing=0,  # the stages of a photo differ in speed; only the mean of all tells
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def __enter__(self) -> BatchBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, number: int, job: Job, stage: str, done: int, total: int) -> None:
        """See `JobProgress`."""
        name = job.photos[0].input.name
        self._bar.set_description_str(f"{number + 1}/{len(self._weights)} {name}", refresh=False)
        self._bar.set_postfix_str(f"{stage} {done}/{total}", refresh=False)
        share = fraction_done(stage, done, total)
        self._bar.update(self._before[number] + self._weights[number] * share - self._bar.n)
