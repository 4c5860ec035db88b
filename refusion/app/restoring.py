"""Restores one photo of the page as `tiled_infer.py` does, and makes reduced copies to show."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from refusion.batch.jobs import Outcome, run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import Job, PhotoFiles, plan_jobs
from refusion.batch.progress import fraction_done
from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.listing import FORMATS, READ_ONLY, RESULTS
from refusion.images.photo import Photo
from refusion.images.resize import resize_like, shrink
from refusion.restorers import Restorer

SIDE = 1600
"""Long side in pixels of the images that the page shows; the files have the full size."""


@dataclass(frozen=True)
class Restored:
    """Files of one restored photo; all are in the folder given to `restore_photo`.

    Attributes:
        files: the restored photo in full quality and, with several samples, the uncertainty map.
        before: reduced copy of the photo.
        after: reduced copy of the restored photo, of the same size.
        shown: what `before` shows, with samples (3, h, w) in [0, 1].
        map: reduced copy of the uncertainty map; None with one sample.
        outcome: size and times of the job.
    """

    files: tuple[Path, ...]
    before: Path
    after: Path
    shown: Photo
    map: Path | None
    outcome: Outcome


def restore_photo(
    photo: str | Path,
    model: str,
    restorer: Restorer,
    options: RestoreOptions,
    folder: Path,
    progress: Callable[[float, str], None],
    suffix: str | None = None,
) -> Restored:
    """Restore a file; the result has its bit depth, colour profile and EXIF data.

    Args:
        photo: file of the photo.
        model: name of the model, appended to the name of the result.
        restorer: the model.
        options: steps, seed and other options.
        folder: empty folder for all written files.
        progress: called with the completed fraction, 0..1, and the stage.
        suffix: suffix of the result, which selects its format; None for the format of the photo.

    Raises:
        ImageError: the photo cannot be restored; one line without the temporary folders.
        ConfigError: an option is wrong.
    """
    photo = _own_copy(Path(photo), folder)
    suffix = suffix or result_suffix(photo)
    name = f"{photo.stem.lstrip('.')}_{model}"  # Gradio serves no hidden files
    has_map = options.samples > 1
    (job,) = plan_jobs(
        [photo],
        folder / f"{name}{suffix}",
        uncertainty=folder / f"{name}_uncertainty.png" if has_map else None,
    )

    def report(_: int, __: Job, stage: str, done: int, total: int) -> None:
        progress(fraction_done(stage, done, total), stage)

    (outcome,) = run_jobs([job], restorer, options, report)
    if outcome.error is not None:
        place = None if options.maps is None else options.maps.place
        maps = () if place is None else (place.parent,)
        raise ImageError(_without_folders(outcome.error, photo.parent, folder, *maps))
    (files,) = job.photos
    before, after, shown, uncertainty = _pictures(
        files, options.max_pixels, restorer.info.scale, folder
    )
    return Restored(files.written, before, after, shown, uncertainty, outcome)


def result_suffix(photo: Path) -> str:
    """Suffix of the result of a photo, which keeps its format if that can be written.

    Args:
        photo: file of the photo; its content decides whether it is a photo, not its name.

    >>> [result_suffix(Path(name)) for name in ("a.jpg", "a.HEIC", "a.exe")]
    ['.jpg', '.jpg', '.png']
    """
    suffix = photo.suffix.lower()
    if suffix in FORMATS:
        return photo.suffix
    return RESULTS[READ_ONLY[suffix]] if suffix in READ_ONLY else ".png"


def _own_copy(photo: Path, folder: Path) -> Path:
    """A link to the photo, or a copy, in a folder of its own: old uploads can be deleted."""
    copy = folder / "photo" / photo.name
    copy.parent.mkdir()
    try:
        copy.hardlink_to(photo)
    except FileNotFoundError as error:
        raise ImageError(f"{photo.name}: deleted to make room; choose the file again") from error
    except OSError:  # another disk, or no such links
        shutil.copyfile(photo, copy)
    return copy


def _pictures(
    files: PhotoFiles, max_pixels: int, scale: int, folder: Path
) -> tuple[Path, Path, Photo, Path | None]:
    """Write reduced copies: photo and result with the same size, and the uncertainty map."""
    limit = max_pixels * scale**2
    after = _small(files.output, limit)
    photo = _small(files.input, max_pixels)
    before = replace(photo, samples=resize_like(photo.samples[None], after.samples[None])[0])
    uncertainty = None if files.uncertainty is None else _small(files.uncertainty, limit)
    pictures = {"before.jpg": before, "after.jpg": after, "map.png": uncertainty}
    for name, picture in pictures.items():
        if picture is not None:
            write_image(folder / name, picture.samples, picture)
    return (
        folder / "before.jpg",
        folder / "after.jpg",
        before,
        None if uncertainty is None else folder / "map.png",
    )


def _small(path: Path, max_pixels: int) -> Photo:
    """Reduced copy of a photo with its colour profile, without other metadata."""
    photo = read_image(path, max_pixels=max_pixels)
    return Photo(shrink(photo.samples[None], SIDE)[0], mode=photo.mode, icc=photo.icc)


def _without_folders(text: str, *folders: Path) -> str:
    """Remove the temporary folders, which the user does not know, from an error message."""
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return text
