"""One photo of the page: restored as `tiled_infer.py` does it, and pictures of it to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from refusion.batch.jobs import Outcome, RestoreOptions, run_jobs
from refusion.batch.plan import Job, PhotoFiles, plan_jobs
from refusion.batch.progress import fraction_done
from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.images.resize import resize_like, shrink
from refusion.restorers import Restorer

SIDE = 1600
"""Pixels of the longer side of what the page shows; the files are of full size."""


@dataclass(frozen=True)
class Restored:
    """What became of a photo; all paths lie in the folder given.

    Attributes:
        files: the restored photo at full quality and, of several samples, the map of uncertainty.
        before: the photo as the page shows it.
        after: its restoration, of the same size.
        map: the map as the page shows it; None for one sample.
        outcome: size and seconds.
    """

    files: tuple[Path, ...]
    before: Path
    after: Path
    map: Path | None
    outcome: Outcome


def restore_photo(
    photo: str | Path,
    model: str,
    restorer: Restorer,
    options: RestoreOptions,
    folder: Path,
    progress: Callable[[float, str], None],
) -> Restored:
    """Restore a file; the result has its format, bit depth, profile and EXIF.

    Args:
        photo: the file.
        model: word that the result's name ends in.
        restorer: what restores.
        options: steps, seed and the like.
        folder: an empty one, for all that is written.
        progress: told the share that is done, 0..1, and the stage.

    Raises:
        ImageError: the photo cannot be restored; one line without folders.
        ConfigError: an option is wrong.
    """
    photo = Path(photo)
    name = f"{photo.stem}_{model}"
    is_drawn = options.samples > 1
    (job,) = plan_jobs(
        [photo],
        folder / f"{name}{photo.suffix}",
        uncertainty=folder / f"{name}_uncertainty.png" if is_drawn else None,
    )

    def tell(_: int, __: Job, stage: str, done: int, total: int) -> None:
        progress(fraction_done(stage, done, total), stage)

    (outcome,) = run_jobs([job], restorer, options, tell)
    if outcome.error is not None:
        raise ImageError(_without_folders(outcome.error, photo.parent, folder))
    (files,) = job.photos
    before, after, spread = _pictures(files, options.max_pixels, restorer.info.scale, folder)
    return Restored(files.written, before, after, spread, outcome)


def _pictures(
    files: PhotoFiles, max_pixels: int, scale: int, folder: Path
) -> tuple[Path, Path, Path | None]:
    """Reduced copies: photo and result of one size, and the map."""
    limit = max_pixels * scale**2
    after = _small(files.output, limit)
    given = _small(files.input, max_pixels)
    before = replace(given, samples=resize_like(given.samples[None], after.samples[None])[0])
    spread = None if files.uncertainty is None else _small(files.uncertainty, limit)
    pictures = {"before.jpg": before, "after.jpg": after, "map.png": spread}
    for name, picture in pictures.items():
        if picture is not None:
            write_image(folder / name, picture.samples, picture)
    return (
        folder / "before.jpg",
        folder / "after.jpg",
        None if spread is None else folder / "map.png",
    )


def _small(path: Path, max_pixels: int) -> Photo:
    """A copy to look at: reduced, with the profile that its colours need and nothing else."""
    photo = read_image(path, max_pixels=max_pixels)
    return Photo(shrink(photo.samples[None], SIDE)[0], mode=photo.mode, icc=photo.icc)


def _without_folders(text: str, *folders: Path) -> str:
    """An error without the temporary folders, which tell the reader nothing."""
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return text
