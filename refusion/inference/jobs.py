"""Batches of files: which photo becomes which file, and restoring them one after the other.

One damaged photo does not stop the others, and no output is ever half written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from refusion.data.image_io import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    list_images,
    read_image,
    write_image,
)
from refusion.data.photo import Photo
from refusion.errors import ConfigError, ImageError, RefusionError
from refusion.inference.guided import shrink
from refusion.inference.memory import is_out_of_memory
from refusion.restorers.base import Restorer

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("results")
_HALF = 800  # longer side in pixels of each half of a comparison, at most


@dataclass(frozen=True)
class Job:
    """One photo to restore: the file read, the file written and the comparison, if wanted."""

    input: Path
    output: Path
    compare: Path | None = None


@dataclass(frozen=True)
class RestoreOptions:
    """What applies to every photo of a batch; see `Restorer.restore`.

    `max_pixels` is the largest photo that is decoded.
    """

    steps: int | None = None
    sampler: str | None = None
    seed: int = 0
    tile: int | Literal["auto"] | None = "auto"
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `error` is one line, None if the output was written."""

    job: Job
    seconds: float
    error: str | None = None


JobProgress = Callable[[int, Job, str, int, int], None]
"""Called as `(number of the job from 0, job, stage, done, total)`; see `Progress`."""


def plan_jobs(
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    recursive: bool = True,
    compare: bool = False,
) -> list[Job]:
    """Decide which files are read and written, before any work.

    Args:
        inputs: files and folders. A path that does not exist becomes a job too, whose reading
            then fails. Folders are searched for images, sub-folders are kept in the output.
        output: folder, None for `results`; or the name of an image file if the input is one file.
        recursive: search the folders' sub-folders.
        compare: also write NAME_compare.png with input and result side by side.

    Raises:
        ConfigError: two jobs would write the same file, or one would overwrite an input.
        ImageError: no input at all.
    """
    paths = [Path(path) for path in inputs]
    target = DEFAULT_OUTPUT if output is None else Path(output)
    if target.suffix.lower() in IMAGE_SUFFIXES and not target.is_dir():
        if len(paths) != 1 or paths[0].is_dir():
            raise ConfigError(
                f"output: '{target}' names one file for several inputs; give a folder"
            )
        pairs = {(paths[0], target): None}
    else:
        pairs = dict.fromkeys(
            pair for path in paths for pair in _pairs(path, target, recursive=recursive)
        )
    if not pairs:
        raise ImageError(f"input: no images in {', '.join(map(str, paths)) or 'an empty list'}")
    jobs = [
        Job(source, result, result.with_name(f"{result.stem}_compare.png") if compare else None)
        for source, result in pairs
    ]
    _check_outputs(jobs)
    return jobs


def run_jobs(
    jobs: Iterable[Job],
    restorer: Restorer,
    options: RestoreOptions,
    progress: JobProgress | None = None,
) -> list[Outcome]:
    """Restore the photos one after the other; a photo that fails is reported, the rest go on.

    Args:
        jobs: from `plan_jobs`.
        restorer: what restores.
        options: for every photo; each uses the same seed, so its place in the batch is no matter.
        progress: told of each stage of each job.

    Returns:
        One outcome per job, in their order.

    Raises:
        ConfigError: an option is wrong, which would fail every photo.
    """
    return [_run(number, job, restorer, options, progress) for number, job in enumerate(jobs)]


def _run(
    number: int,
    job: Job,
    restorer: Restorer,
    options: RestoreOptions,
    progress: JobProgress | None,
) -> Outcome:
    def tell(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(number, job, stage, done, total)

    start = time.monotonic()
    error = None
    try:
        _restore(job, restorer, options, tell)
    except ConfigError:
        raise
    except (RefusionError, OSError, MemoryError, RuntimeError) as caught:
        if isinstance(caught, RuntimeError) and not is_out_of_memory(caught):
            raise
        error = _reason(job, caught)
    return Outcome(job, time.monotonic() - start, error)


def _restore(
    job: Job, restorer: Restorer, options: RestoreOptions, tell: Callable[[str, int, int], None]
) -> None:
    tell("read", 0, 1)
    photo = read_image(job.input, max_pixels=options.max_pixels)
    if job.output.suffix and job.output.suffix.lower() not in IMAGE_SUFFIXES:
        known = ", ".join(IMAGE_SUFFIXES)
        raise ImageError(f"{job.output}: cannot be written, expected a name that ends in {known}")
    job.output.parent.mkdir(parents=True, exist_ok=True)  # now: it may fail, and restoring is long
    result = restorer.restore(
        photo.image[None],
        steps=options.steps,
        sampler=options.sampler,
        seed=options.seed,
        tile=options.tile,
        callback=tell,
    )[0]
    tell("write", 0, 1)
    write_image(job.output, result, photo)
    if job.compare is not None:
        halves = [shrink(image[None], _HALF)[0] for image in (photo.image, result.cpu())]
        both = torch.cat(halves, dim=-1)
        write_image(job.compare, both, Photo(both, icc=photo.icc))
    tell("write", 1, 1)


def _reason(job: Job, error: BaseException) -> str:
    if is_out_of_memory(error):
        return f"{job.input}: not enough memory; try --tile 256, or restore a smaller photo"
    text = " ".join(str(error).split()) or type(error).__name__
    named = str(job.input) in text or str(job.output) in text
    return text if named else f"{job.input}: {text}"


def _pairs(path: Path, target: Path, *, recursive: bool) -> list[tuple[Path, Path]]:
    """Input and output of every photo behind one input path."""
    if not path.is_dir():
        return [(path, target / path.name)]
    try:
        found = list_images(path, recursive=recursive)
    except ImageError as error:
        logger.warning("%s", error)
        return []
    # Results of an earlier run inside the input folder are not to be restored again.
    root, results = path.resolve(), target.resolve()
    if results != root:
        found = [file for file in found if not file.resolve().is_relative_to(results)]
    return [(file, target / file.relative_to(path)) for file in found]


def _check_outputs(jobs: Sequence[Job]) -> None:
    sources = {_identity(job.input): job.input for job in jobs}
    writers: dict[object, Path] = {}
    for job in jobs:
        for path in filter(None, (job.output, job.compare)):
            key = _identity(path)
            if key in sources:
                raise ConfigError(
                    f"output: '{path}' would overwrite the input '{sources[key]}'; "
                    "choose another folder with --output"
                )
            if key in writers:
                raise ConfigError(
                    f"output: '{writers[key]}' and '{job.input}' would both become '{path}'; "
                    "rename one or restore them in separate runs"
                )
            writers[key] = job.input


def _identity(path: Path) -> object:
    """Equal for two names of one file, links included."""
    try:
        stat = path.stat()
    except OSError:
        return path.resolve()
    return stat.st_dev, stat.st_ino
