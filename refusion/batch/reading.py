"""Reading of the photos of a batch, on a GPU ahead of the restoration.

While a GPU restores a photo, the processor would wait. So a thread decodes the photos of the next
job. On a CPU the restoration uses all cores, and a limit of the memory allows no second photo.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from refusion.batch.limits import read_photos
from refusion.batch.plan import Job
from refusion.images.decoder_warnings import quiet_decoders
from refusion.images.photo import Photo
from refusion.restorers.base import RestorerInfo


class PhotoReader:
    """Context that reads the photos of jobs.

    Args:
        jobs: the jobs, in the order in which they are restored.
        info: of the restorer.
        max_pixels: largest number of pixels of a photo.
        max_memory: maximum number of bytes of the process; None for no limit.
        skip_existing: whether jobs whose outputs exist are left out, so they are not read ahead.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        info: RestorerInfo,
        *,
        max_pixels: int,
        max_memory: int | None,
        skip_existing: bool,
    ) -> None:
        self._jobs, self._skips = jobs, skip_existing
        self._limits = (info, max_pixels, max_memory)
        self._is_ahead = info.device.startswith("cuda") and max_memory is None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._next: tuple[int, Future[list[Photo]]] | None = None
        self._context = contextlib.ExitStack()

    def __enter__(self) -> PhotoReader:
        if self._is_ahead:
            self._context.enter_context(quiet_decoders())  # for the thread, too
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._context.close()

    def photos(self, number: int) -> list[Photo]:
        """The photos of a job; then reading of the next job begins.

        Args:
            number: index of the job.

        Raises:
            ImageError: a photo cannot be read, or it is too large to decode.
        """
        ready, self._next = self._next, None
        try:
            if ready is not None and ready[0] == number:
                return ready[1].result()
            return read_photos(self._jobs[number], *self._limits)
        finally:
            self._start(number + 1)

    def _start(self, number: int) -> None:
        if not self._is_ahead or number >= len(self._jobs):
            return
        job = self._jobs[number]
        if not (self._skips and job.is_done):
            self._next = number, self._thread.submit(read_photos, job, *self._limits)
