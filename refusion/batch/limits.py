"""Limits on the pixels and the memory of the photos of a job, checked before memory is used."""

from __future__ import annotations

from collections.abc import Sequence

from refusion.batch.plan import Job
from refusion.errors import ImageError
from refusion.images.io import read_image
from refusion.images.photo import Photo
from refusion.images.write_memory import write_memory
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
    results, writing = 0, 0
    for file, photo in zip(job.photos, photos, strict=True):
        height, width = (side * info.scale for side in photo.samples.shape[1:])
        itemsize = 4 if samples > 1 else photo.samples.element_size()
        results += 3 * height * width * itemsize
        writing = max(writing, write_memory(file.output, photo, width, height))
        if file.haze_map is not None:  # a float map, and its samples of 16 bits
            results += (4 + 2 * 3) * height * width
    needed, left = results + writing, memory_left(max_memory, info.device)
    if needed > left:
        raise ImageError(
            f"{job.photos[0].input}: max memory: the result of {width}x{height} pixels and its file"
            f" need about {needed / 2**30:.2f} GB, the limit leaves {max(0, left) / 2**30:.2f} GB;"
            " increase the limit (--max-memory) or reduce the photo"
        )
