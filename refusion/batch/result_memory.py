"""The memory of the results of a photo and of writing their files; needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from refusion.batch.plan import PhotoFiles
from refusion.errors import ImageError
from refusion.images.photo import Photo
from refusion.images.write_memory import write_memory

_HAZE_MAP = 4 + 2 * 3  # bytes per pixel: a float map, and its samples of 16 bits


def check_result_memory(
    files: Sequence[PhotoFiles],
    photos: Sequence[Photo],
    left: int,
    *,
    scale: int = 1,
    itemsize: int | None = None,
) -> None:
    """Raise `ImageError` if the results of photos and the writing of a file need too much memory.

    Args:
        files: files of photos that are restored together.
        photos: these photos.
        left: bytes that the process may still use.
        scale: factor of the sides of the results.
        itemsize: bytes of a sample of the results; None for that of the photo.
    """
    results, writing = 0, 0
    for file, photo in zip(files, photos, strict=True):
        height, width = (side * scale for side in photo.samples.shape[1:])
        results += 3 * height * width * (itemsize or photo.samples.itemsize)
        writing = max(writing, write_memory(file.output, photo, width, height))
        if file.haze_map is not None:
            results += _HAZE_MAP * height * width
    needed = results + writing
    if needed > left:
        raise ImageError(
            f"{files[0].input}: max memory: the result of {width}x{height} pixels and its file"
            f" need about {needed / 2**30:.2f} GB, the limit leaves {max(0, left) / 2**30:.2f} GB;"
            " increase the limit (--max-memory) or reduce the photo"
        )
