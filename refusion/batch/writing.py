"""Writing of the results of a batch, on a GPU during the restoration of the next photo.

Encoding a large JPEG or PNG takes a processor as long as a GPU needs for the restoration. So a
thread writes the results of a job while the GPU works on the next one. On a CPU the restoration
uses all cores, and a limit of the memory allows no second result. There the results are written
before the next restoration begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

import torch
from torch import Tensor

from refusion.batch.plan import Job
from refusion.batch.uncertainty import write_map
from refusion.images.gray_map import write_haze_map
from refusion.images.io import write_image
from refusion.images.photo import Photo
from refusion.images.resize import resize_like, shrink
from refusion.restorers.base import RestorerInfo

_HALF = 800  # maximum long side in pixels of each half of a comparison

Ended = Callable[[Exception | None], None]
"""Called in the main thread when a writing has ended, with its error or None."""


@dataclass(frozen=True)
class Results:
    """What is written for a job.

    Attributes:
        job: the job, which names the files.
        photos: its photos; the files get their bit depth, colour profile and metadata.
        restored: restored photo, or the views of a stereo pair, (3 * views, H, W).
        deviation: standard deviation of several samples, (views, H, W); None for one sample.
        haze: 1 - t of every pixel, (1, H, W); None if no map of it is written.
    """

    job: Job
    photos: Sequence[Photo]
    restored: Tensor
    deviation: Tensor | None = None
    haze: Tensor | None = None

    def on_cpu(self) -> Results:
        """The same results in the memory of the CPU; waits for the restoration on a GPU."""
        deviation = None if self.deviation is None else self.deviation.cpu()
        haze = None if self.haze is None else self.haze.cpu()
        return replace(self, restored=self.restored.cpu(), deviation=deviation, haze=haze)

    @property
    def is_unchanged(self) -> bool:
        """Whether the restored photos are the photos themselves, with the same integers."""
        photos = [photo.samples for photo in self.photos]
        first, restored = photos[0], self.restored
        if restored.shape[1:] != first.shape[1:] or restored.dtype != first.dtype:
            return False
        return all(map(torch.equal, restored.cpu().split(3), photos))

    def write(self) -> None:
        """Write the restored photos, and their comparisons and maps.

        Raises:
            ImageError: a file cannot be written.
        """
        for view, (file, photo) in enumerate(zip(self.job.photos, self.photos, strict=True)):
            restored = self.restored[3 * view : 3 * view + 3]
            write_image(file.output, restored, photo)
            if file.compare is not None:
                both = _side_by_side(photo.samples, restored.cpu())
                write_image(file.compare, both, Photo(both, mode=photo.mode, icc=photo.icc))
            if file.uncertainty is not None:
                write_map(file.uncertainty, self.deviation[view])
            if file.haze_map is not None:
                write_haze_map(file.haze_map, self.haze.cpu().numpy())


class ResultWriter:
    """Context that writes the results of jobs, one after the other.

    Args:
        info: of the restorer.
        max_memory: maximum number of bytes of the process; None for no limit.

    Attributes:
        is_behind: whether `start` returns before the results are written. At most one job is being
            written, so the memory holds the results of two jobs at most.
    """

    def __init__(self, info: RestorerInfo, max_memory: int | None) -> None:
        self.is_behind = info.device.startswith("cuda") and max_memory is None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._running: tuple[Future[None], Ended] | None = None

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        finally:
            self._thread.shutdown()

    def start(self, write: Callable[[], None], ended: Ended) -> None:
        """Begin to write the results of a job, after those of the job before.

        Args:
            write: writes the results.
            ended: is called when the results are written: by this call, or if `is_behind` by the
                next call of this object.
        """
        self.finish()
        if self.is_behind:
            self._running = self._thread.submit(write), ended
        else:
            ended(_error_of(write))

    def finish(self) -> None:
        """Wait until the results are written; then `ended` of `start` is called."""
        if self._running is None:
            return
        future, ended = self._running
        error = _error_of(future.result)  # after an interrupt of this, the next call waits again
        self._running = None
        ended(error)


def _error_of(function: Callable[[], None]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def _side_by_side(before: Tensor, after: Tensor) -> Tensor:
    """Input (left) and result (right), reduced to the same size, float (3, h, w)."""
    before, after = (shrink(image[None], _HALF) for image in (before, after))
    return torch.cat([resize_like(before, after), after], dim=-1)[0]
