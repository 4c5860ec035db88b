"""Restores the photos of a click one after the other; the results of several are one zip file."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from refusion.app.restoring import Restored
from refusion.batch.jobs import Outcome
from refusion.failures import describe_failure, is_debugging

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """The results of several photos.

    Attributes:
        first: the first photo that was restored; None if all failed.
        archive: zip file with all results.
        outcomes: outcomes of the restored photos.
        errors: one line for each photo that failed.
    """

    first: Restored | None
    archive: Path
    outcomes: tuple[Outcome, ...]
    errors: tuple[str, ...]


def restore_series(
    photos: Sequence[Path],
    archive: Path,
    restore: Callable[[Path, Path, Callable[[float, str], None]], Restored],
    progress: Callable[[float, str], None],
) -> Series:
    """Restore photos into a zip file; a photo that fails does not stop the others.

    Args:
        photos: files of the photos.
        archive: the zip file to write.
        restore: restores a photo into an empty folder; called with the photo, the folder and a
            function like `progress`.
        progress: called with the completed fraction of all photos, 0..1, and the stage.
    """
    first, outcomes, errors = None, [], []
    # Photos are compressed already.
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for number, photo in enumerate(photos):
            folder = archive.parent / str(number)
            folder.mkdir()

            def report(
                share: float, stage: str, number: int = number, name: str = photo.name
            ) -> None:
                title = f"{number + 1} of {len(photos)}: {name}, {stage}"
                progress((number + share) / len(photos), title)

            try:
                done = restore(photo, folder, report)
            except Exception as error:  # also an error of the program: the others are restored
                errors.append(_error_line(error))
                continue
            for file in done.files:
                packed.write(file, _free_name(file.name, set(packed.namelist())))
                file.unlink()
            outcomes.append(done.outcome)
            first = first or done
            if done is not first:
                _delete(done)
    return Series(first, archive, tuple(outcomes), tuple(errors))


def _free_name(name: str, taken: set[str]) -> str:
    """A name that the zip file does not contain: photos of several folders can have one name."""
    path, number = Path(name), 2
    while name in taken:
        name, number = f"{path.stem} ({number}){path.suffix}", number + 1
    return name


def _delete(done: Restored) -> None:
    """Delete the pictures for the page."""
    for file in filter(None, (done.before, done.after, done.map)):
        with suppress(OSError):
            file.unlink()


def _error_line(error: Exception) -> str:
    failure = describe_failure(error)
    if failure.is_internal:
        logger.warning("%s", failure.text, exc_info=error if is_debugging() else None)
    return failure.text
