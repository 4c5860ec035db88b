"""Fast previews: a model on a reduced copy of a photo, or on a part of the photo at 100 %."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from refusion.app.haze import KeepingRestorer, KeptHaze, in_8_bits
from refusion.batch.options import RestoreOptions
from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.images.resize import resize_like, shrink
from refusion.images.samples import to_float
from refusion.restorers import Restorer, RestorerInfo

SIDE = 1024
"""Long side of previews in pixels."""


@dataclass(frozen=True)
class ShownPhoto:
    """The parts of a photo that the page shows before it is restored; samples are uint8.

    Attributes:
        whole: reduced copy, with a long side of at most `SIDE`.
        detail: the middle of the photo at 100 %, with the shape of the photo.
        size: width and height of the photo in pixels.
    """

    whole: Photo
    detail: Photo
    size: tuple[int, int]

    @classmethod
    def read(cls, path: Path, max_pixels: int, max_memory: int | None = None) -> ShownPhoto:
        """Read a photo.

        Args:
            path: file of the photo.
            max_pixels: larger photos are refused before they are decoded.
            max_memory: maximum number of bytes for the decoding; None for no limit.

        Raises:
            ImageError: the file cannot be read, or it is too large; one line without its folder.
        """
        if not path.is_file():
            raise ImageError(f"{path.name}: deleted to make room; choose the file again")
        try:
            photo = read_image(path, max_pixels=max_pixels, max_memory=max_memory)
        except ImageError as error:
            raise ImageError(str(error).replace(f"{path.parent}/", "")) from error
        samples = photo.samples
        # Every other pixel of a large photo is enough, and four times faster.
        stride = max(1, max(samples.shape) // (2 * SIDE))
        reduced = shrink(samples[None, :, ::stride, ::stride], SIDE)[0]
        whole = Photo(reduced, mode=photo.mode, icc=photo.icc)
        detail = replace(whole, samples=_middle(samples))
        return cls(in_8_bits(whole), in_8_bits(detail), (samples.shape[2], samples.shape[1]))


def _middle(samples: Tensor) -> Tensor:
    """The middle of a photo (3, H, W), with a long side of at most `SIDE`."""
    height, width = samples.shape[1:]
    scale = min(1.0, SIDE / max(height, width))
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return samples[:, top : top + rows, left : left + columns]


class Kept(Protocol):
    """A preview that does not run the network again for another strength."""

    photo: Photo

    def picture(self, options: RestoreOptions) -> Photo:
        """The restored photo for the strength in the options."""


@dataclass(frozen=True)
class KeptResult:
    """The result of a model for a preview.

    Attributes:
        photo: what is restored, at the size of the result.
        result: the result, float32 samples (3, h, w).
        blends: whether `result` is that of strength 1, and others lie between `photo` and it
            (except for values that the result clips at black or white).
    """

    photo: Photo
    result: Tensor
    blends: bool

    def picture(self, options: RestoreOptions) -> Photo:
        """The restored photo.

        Args:
            options: the strength.
        """
        result = self.result
        if self.blends:
            result = torch.lerp(to_float(self.photo.samples), result, options.strength)
        return replace(self.photo, samples=result)


def blends(info: RestorerInfo) -> bool:
    """Whether the results of all strengths follow from one run: haze, and processes on pixels.

    Args:
        info: description of the restorer.
    """
    return info.predicts_haze or (info.factor == 1 and "guide" not in info.needs)


def preview_key(info: RestorerInfo, options: RestoreOptions) -> Hashable:
    """Everything besides the photo that `run_preview` depends on.

    Args:
        info: description of the restorer.
        options: options of the restoration.
    """
    strength = None if blends(info) else options.strength
    return options.steps, options.seed, options.conditions.noise_std, options.maps, strength


def run_preview(
    path: Path,
    photo: Photo,
    restorer: Restorer,
    options: RestoreOptions,
    check: Callable[[], None],
) -> Kept:
    """Run a model on what the page shows of a photo.

    Args:
        path: file of the photo, for messages and to find its disparity map.
        photo: what is shown.
        restorer: the model.
        options: options of the restoration; one sample is made.
        check: called often; it stops the run with an exception.

    Raises:
        RefusionError: an option is wrong, or the disparity map does not fit.
    """
    info = restorer.info
    how = {"steps": options.steps, "seed": options.seed, "callback": lambda *_: check()}
    if info.predicts_haze:
        keeping = KeepingRestorer(restorer, None)
        keeping.restore(photo.samples[None], **how)
        return KeptHaze.of(keeping.haze, photo)
    if info.colours:
        photo = photo.in_colour()
    if options.maps is not None:
        conditioned = options.maps.conditioned(photo.samples, path, options.strength)
        how |= {"conditions": conditioned.conditions, "strength": conditioned.strength}
        result = conditioned.at_full_size(restorer.restore(conditioned.lq, **how)[0])
        return KeptResult(photo, to_float(result), False)
    how |= {"conditions": options.conditions}
    how |= {"strength": 1.0 if blends(info) else options.strength}
    source = photo.samples[None]
    if info.scale > 1:
        source = shrink(source, SIDE // info.scale)
    result = to_float(restorer.restore(source, **how))
    before = resize_like(to_float(source), result)[0]
    return KeptResult(replace(photo, samples=before), result[0], blends(info))


def write_pictures(before: Photo, after: Photo, folder: Path) -> tuple[Path, Path]:
    """Write two pictures of one size for the page.

    Args:
        before: the photo.
        after: the restored photo.
        folder: folder for the files.

    Returns:
        The files.
    """
    files = folder / "before.jpg", folder / "after.jpg"
    for file, picture in zip(files, (before, after), strict=True):
        write_image(file, picture.samples, picture)
    return files
