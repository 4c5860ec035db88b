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
from torch import Tensor

from refusion.data.image_io import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    list_images,
    read_image,
    write_image,
)
from refusion.data.photo import Photo
from refusion.errors import ConfigError, ImageError, RefusionError
from refusion.inference.memory import is_out_of_memory
from refusion.inference.resize import beside, shrink
from refusion.restorers.base import NOTHING, Known, Restorer

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("results")
_HALF = 800  # longer side in pixels of each half of a comparison, at most
_VIEWS = ("_L", "_R")  # ends of the names of a stereo pair


@dataclass(frozen=True)
class PhotoFiles:
    """Files of one photo: the one read, the one written and the comparison, if wanted."""

    input: Path
    output: Path
    compare: Path | None = None


@dataclass(frozen=True)
class Job:
    """Photos restored together: one, or the left and the right view of a stereo pair."""

    photos: tuple[PhotoFiles, ...]


@dataclass(frozen=True)
class RestoreOptions:
    """What applies to every photo of a batch; see `Restorer.restore`.

    `max_pixels` is the largest photo that is decoded.
    """

    steps: int | None = None
    sampler: str | None = None
    seed: int = 0
    tile: int | Literal["auto"] | None = "auto"
    known: Known = NOTHING
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `error` is one line, None if all outputs were written."""

    job: Job
    seconds: float
    error: str | None = None


JobProgress = Callable[[int, Job, str, int, int], None]
"""Called as `(number of the job from 0, job, stage, done, total)`; see `Progress`."""


def plan_jobs(
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    views: int = 1,
    recursive: bool = True,
    compare: bool = False,
) -> list[Job]:
    """Decide which files are read and written, before any work.

    Args:
        inputs: files and folders. A path that does not exist becomes a job too, whose reading
            then fails. Folders are searched for images, sub-folders are kept in the output.
        output: folder, None for `results`; or the name of an image file if the input is one file.
        views: of the restorer; for 2, NAME_L and NAME_R with the same ending become one job, and
            so do two files given, left then right. A view alone is a job that fails.
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
    files = [
        PhotoFiles(
            source, result, result.with_name(f"{result.stem}_compare.png") if compare else None
        )
        for source, result in pairs
    ]
    _check_outputs(files)
    if views == 1:
        return [Job((file,)) for file in files]
    jobs = _paired(files)
    both_given = len(paths) == len(files) == 2 and not any(path.is_dir() for path in paths)
    return [Job(tuple(files))] if both_given and len(jobs) == 2 else jobs


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
    if len(job.photos) < restorer.info.views:
        raise ImageError(
            f"{job.photos[0].input}: no partner; the model restores the two views of a stereo "
            "pair together, NAME_L and NAME_R with the same ending"
        )
    photos = [read_image(file.input, max_pixels=options.max_pixels) for file in job.photos]
    for file in job.photos:  # now: it may fail, and restoring is long
        _make_place(file.output)
    result = restorer.restore(
        _together(job, photos)[None],
        steps=options.steps,
        sampler=options.sampler,
        seed=options.seed,
        tile=options.tile,
        known=options.known,
        callback=tell,
    )[0]
    tell("write", 0, 1)
    for file, photo, restored in zip(job.photos, photos, result.split(3), strict=True):
        write_image(file.output, restored, photo)
        if file.compare is not None:
            both = _side_by_side(photo.image, restored.cpu())
            write_image(file.compare, both, Photo(both, icc=photo.icc))
    tell("write", 1, 1)


def _make_place(output: Path) -> None:
    """Make the folder of an output whose name can be written."""
    if output.suffix and output.suffix.lower() not in IMAGE_SUFFIXES:
        known = ", ".join(IMAGE_SUFFIXES)
        raise ImageError(f"{output}: cannot be written, expected a name that ends in {known}")
    output.parent.mkdir(parents=True, exist_ok=True)


def _together(job: Job, photos: Sequence[Photo]) -> Tensor:
    """The photo (3, H, W), or the views of a pair stacked (6, H, W)."""
    if len(photos) == 1:
        return photos[0].image  # not copied, it may be large
    sizes = ["x".join(map(str, photo.image.shape[:0:-1])) for photo in photos]
    if sizes[0] != sizes[1]:
        raise ImageError(
            f"{job.photos[0].input}: {sizes[0]} pixels, but {job.photos[1].input} has {sizes[1]}; "
            "the views of a pair must have one size"
        )
    return torch.cat([photo.image for photo in photos], dim=0)


def _side_by_side(before: Tensor, after: Tensor) -> Tensor:
    """Input and result (3, H, W) at one size, the former on the left."""
    before, after = (shrink(image[None], _HALF) for image in (before, after))
    return torch.cat([beside(before, after), after], dim=-1)[0]


def _reason(job: Job, error: BaseException) -> str:
    first = job.photos[0].input
    if is_out_of_memory(error):
        return f"{first}: not enough memory; try --tile 256, or restore a smaller photo"
    text = " ".join(str(error).split()) or type(error).__name__
    is_named = any(str(path) in text for file in job.photos for path in (file.input, file.output))
    return text if is_named else f"{first}: {text}"


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


def _paired(files: Iterable[PhotoFiles]) -> list[Job]:
    """Left and right view of each scene in one job, a view without partner in one of its own."""
    scenes: dict[object, dict[str, PhotoFiles]] = {}
    for file in files:
        source = file.input
        view = next((end for end in _VIEWS if source.stem.endswith(end)), "")
        name = source.stem.removesuffix(view)
        scene = (source.parent, name, source.suffix, file.output.parent, bool(view))
        scenes.setdefault(scene, {})[view] = file
    return [
        Job(tuple(scene[view] for view in (*_VIEWS, "") if view in scene))
        for scene in scenes.values()
    ]


def _check_outputs(files: Sequence[PhotoFiles]) -> None:
    sources = {_identity(file.input): file.input for file in files}
    writers: dict[object, Path] = {}
    for file in files:
        for path in filter(None, (file.output, file.compare)):
            key = _identity(path)
            if key in sources:
                raise ConfigError(
                    f"output: '{path}' would overwrite the input '{sources[key]}'; "
                    "choose another folder with --output"
                )
            if key in writers:
                raise ConfigError(
                    f"output: '{writers[key]}' and '{file.input}' would both become '{path}'; "
                    "rename one or restore them in separate runs"
                )
            writers[key] = file.input


def _identity(path: Path) -> object:
    """Equal for two names of one file, links included."""
    try:
        stat = path.stat()
    except OSError:
        return path.resolve()
    return stat.st_dev, stat.st_ino
