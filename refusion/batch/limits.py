"""Limits on the pixels and the memory of the photos of a job, checked before memory is used."""

from __future__ import annotations

from collections.abc import Sequence

from refusion.batch.plan import Job
from refusion.batch.result_memory import check_result_memory
from refusion.images.io import read_image
from refusion.images.photo import Photo
from refusion.restorers.base import RestorerInfo
from refusion.tiling.memory import memory_left


def read_photos(
    job: Job, info: RestorerInfo, max_pixels: int, max_memory: int | None
) -> list[Photo]:
    """Read the photos of a job.

    Args:
        job: the job.
        info: of the restorer; photos count for the memory of a CPU.
        max_pixels: largest number of pixels of a photo.
        max_memory: maximum number of bytes of the process; None for no limit.

    Raises:
        ImageError: a photo cannot be read, or it is too large to decode.
    """
    photos: list[Photo] = []
    for file in job.photos:  # the photos that are already read are part of the process
        left = None if max_memory is None else memory_left(max_memory, info.device)
        photos.append(read_image(file.input, max_pixels=max_pixels, max_memory=left))
    return photos


def check_results(
    job: Job,
    photos: Sequence[Photo],
    info: RestorerInfo,
    samples: int,
    max_memory: int | None,
) -> None:
    """Raise `ImageError` if the results and the writing of a file need more than the limit.

    Args:
        job: the job.
        photos: its photos.
        info: of the restorer, which has limits of its own for the restoration.
        samples: number of samples per photo; the mean of several is a float image.
        max_memory: maximum number of bytes of the process; None for no limit.
    """
    if max_memory is None:
        return
    left = memory_left(max_memory, info.device)
    itemsize = 4 if samples > 1 else None
    check_result_memory(job.photos, photos, left, scale=info.scale, itemsize=itemsize)
