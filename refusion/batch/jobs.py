"""Restores batches of photo files one after the other.

A photo that fails does not stop the batch. Output files are written under a temporary name and
renamed, so an interrupt leaves no partial file. On a GPU the next photo is decoded, and the results
of the photo before are written, while a photo is restored, see `reading` and `writing`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from refusion.batch.disparity_maps import ConditionedPhoto
from refusion.batch.haze_maps import HazeRecorder
from refusion.batch.limits import check_results
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import Job
from refusion.batch.reading import PhotoReader
from refusion.batch.writing import Results, ResultWriter
from refusion.errors import ConfigError, ImageError, one_line, printable
from refusion.failures import describe_failure, is_debugging
from refusion.images.io import check_place
from refusion.images.noise_level import estimate_noise_std
from refusion.images.photo import Photo
from refusion.images.samples import to_float
from refusion.restorers.base import Progress, Restorer, RestorerInfo
from refusion.restorers.statistics import mean_and_std

logger = logging.getLogger(__name__)

_NAME = 400  # characters of a path in a message


@dataclass(frozen=True)
class Outcome:
    """Result of one job.

    Attributes:
        job: the job.
        error: one line; None if all output files were written or already existed.
        skipped: whether the output files already existed and the job did not run.
        seconds: wall-clock time of each stage that started: 'read', 'restore', 'write'; 'read' is
            the time of waiting, if the photo was read ahead; 'write' overlaps with the next job, if
            the results were written meanwhile.
        sizes: width and height in pixels of each photo, after rotation by its EXIF orientation;
            empty if the photos were not read.
        unchanged: whether the results are the photos themselves, bit for bit, because the model
            found nothing to restore.
        noise_level: estimated standard deviation of the noise in 8-bit levels; None if no estimate
            was used.
    """

    job: Job
    error: str | None = None
    skipped: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    unchanged: bool = False
    noise_level: float | None = None


JobProgress = Callable[[int, Job, str, int, int], None]
"""Called as `(index of the job, job, stage, done, total)`; see `Progress`.

With several samples per photo, the stage 'samples' counts complete samples and replaces the stages
of the model. A skipped job reports the single stage 'skip'. The stage 'write' is complete when the
writing has begun, if it goes on during the next job.
"""


def run_jobs(
    jobs: Sequence[Job],
    restorer: Restorer,
    options: RestoreOptions,
    progress: JobProgress | None = None,
    finished: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Restore photos one after the other; an error in one job does not stop the others.

    Args:
        jobs: jobs from `plan_jobs`.
        restorer: the model.
        options: options for all photos. All photos use the same seed, so a result does not depend
            on the position in the batch.
        progress: called for each stage of each job.
        finished: called with each outcome as soon as the job ends, in the order of `jobs`, so that
            the caller knows the completed jobs after an interrupt.

    Returns:
        One outcome per job, in the order of `jobs`.

    Raises:
        ConfigError: an option is wrong, so that every photo would fail.
    """
    if options.samples < 2 and any(file.uncertainty for job in jobs for file in job.photos):
        raise ConfigError(
            f"uncertainty: needs 2 samples or more, got {options.samples}; add --samples 8"
        )
    outcomes = []

    def ended(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if finished is not None:
            finished(outcome)

    info, limit, skips = restorer.info, options.max_memory, options.skip_existing
    limits = {"max_pixels": options.max_pixels, "max_memory": limit, "skip_existing": skips}
    with ResultWriter(info, limit) as writer, PhotoReader(jobs, info, **limits) as reader:
        for number, job in enumerate(jobs):
            run = _Run(number, job, options, progress, ended)
            if skips and job.is_done:
                writer.finish()
                run.skip()
            else:
                run.restore(restorer, reader, writer)
    return outcomes


class _Measurements:
    """Times and sizes of a job, collected while it runs and kept if it fails."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.sizes: tuple[tuple[int, int], ...] = ()
        self.unchanged = False
        self.noise_level: float | None = None

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - start


@dataclass(frozen=True)
class _Run:
    """The work on one job; `ended` is called with its outcome."""

    number: int
    job: Job
    options: RestoreOptions
    progress: JobProgress | None
    ended: Callable[[Outcome], None]
    measured: _Measurements = field(default_factory=_Measurements)

    def skip(self) -> None:
        self._report("skip", 1, 1)
        self.ended(Outcome(self.job, skipped=True))

    def restore(self, restorer: Restorer, reader: PhotoReader, writer: ResultWriter) -> None:
        """Restore the photos of the job, and write the results or begin to write them."""
        read = functools.partial(reader.photos, self.number)
        try:
            how = (restorer, self.options, self._report, self.measured)
            results = _restored(self.job, read, *how)
            if writer.is_behind:
                results = results.on_cpu()
        except Exception as caught:
            writer.finish()
            self._end(caught)
            return
        self._report("write", 0, 1)
        writer.start(functools.partial(self._write, results, not writer.is_behind), self._end)
        if writer.is_behind:
            self._report("write", 1, 1)

    def _write(self, results: Results, reports: bool) -> None:
        with self.measured.timed("write"):
            results.write()
        self.measured.unchanged = results.is_unchanged
        if reports:
            self._report("write", 1, 1)

    def _end(self, error: Exception | None) -> None:
        """End with an outcome; an unexpected error must not take the other photos with it."""
        if isinstance(error, ConfigError):
            raise error
        line = None if error is None else _error_line(self.job, error)
        measured = self.measured
        unchanged = error is None and measured.unchanged and self.options.strength != 0
        facts = measured.seconds, measured.sizes, unchanged, measured.noise_level
        self.ended(Outcome(self.job, line, False, *facts))

    def _report(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.number, self.job, stage, done, total)


def _restored(
    job: Job,
    read: Callable[[], list[Photo]],
    restorer: Restorer,
    options: RestoreOptions,
    report: Progress,
    measured: _Measurements,
) -> Results:
    """Read the photos of a job and restore them."""
    report("read", 0, 1)
    if len(job.photos) < restorer.info.views:
        raise ImageError(
            f"{job.photos[0].input}: the other view is missing; the model restores the two views "
            "of a stereo pair together, NAME_L and NAME_R with the same file type"
        )
    with measured.timed("read"):
        photos = read()
    measured.sizes = tuple((photo.samples.shape[2], photo.samples.shape[1]) for photo in photos)
    # Before the restoration, which takes long: the output must be writable.
    for file, photo, size in zip(job.photos, photos, measured.sizes, strict=True):
        width, height = (side * restorer.info.scale for side in size)
        check_place(file.output, photo, width, height)
        for additional in file.written[1:]:
            check_place(additional, None, 1, 1)
    check_results(job, photos, restorer.info, options.samples, options.max_memory)
    with measured.timed("restore"):
        conditioned = _conditioned(job, photos, options)
        conditioned, measured.noise_level = _with_noise_level(restorer.info, conditioned)
        recorder = None if job.photos[0].haze_map is None else HazeRecorder(restorer)
        result, deviation = _result(recorder or restorer, conditioned, options, report)
    if restorer.info.colours:
        photos = [photo.in_colour() for photo in photos]
    if options.quality is not None:
        photos = [replace(photo, quality=options.quality) for photo in photos]
    return Results(job, photos, result, deviation, recorder and recorder.amount)


def _conditioned(job: Job, photos: Sequence[Photo], options: RestoreOptions) -> ConditionedPhoto:
    """The photo, or the stacked views of a stereo pair, with the conditions of the model."""
    samples = _stacked_views(job, photos)
    if options.samples > 1:
        # A float photo gives float results; rounding to 8 bits would change their deviation.
        samples = to_float(samples)
    if options.maps is None:
        conditions = options.conditions
        if options.prompts is not None:
            conditions = replace(conditions, prompt=options.prompts.of(job.photos[0].input))
        return ConditionedPhoto(samples[None], conditions, samples, strength=options.strength)
    return options.maps.conditioned(samples, job.photos[0].input, options.strength)


def _with_noise_level(
    info: RestorerInfo, photo: ConditionedPhoto
) -> tuple[ConditionedPhoto, float | None]:
    """The photo with the noise level that the restorer would estimate, also in 8-bit levels.

    None if it estimates none. All samples of the photo use this estimate.
    """
    if "noise_std" not in info.optional or photo.conditions.noise_std is not None:
        return photo, None
    found = estimate_noise_std(photo.lq)
    conditions = replace(photo.conditions, estimated_noise=found)
    return replace(photo, conditions=conditions), round(255 * found.item(), 2)


def _result(
    restorer: Restorer, conditioned: ConditionedPhoto, options: RestoreOptions, report: Progress
) -> tuple[Tensor, Tensor | None]:
    """Restored photo (3 * views, H, W), and None.

    With several samples: their mean, and their standard deviation (views, H, W).
    """

    def sample(seed: int, callback: Progress | None) -> Tensor:
        restored = restorer.restore(
            conditioned.lq,
            steps=options.steps,
            sampler=options.sampler,
            seed=seed,
            tile=options.tile,
            conditions=conditioned.conditions,
            strength=conditioned.strength,
            callback=callback,
        )
        return conditioned.at_full_size(restored[0])

    if options.samples == 1:
        return sample(options.seed, report), None

    def samples() -> Iterator[Tensor]:
        for number in range(options.samples):
            yield sample(options.seed + number, None)
            report("samples", number + 1, options.samples)

    return mean_and_std(samples())


def _stacked_views(job: Job, photos: Sequence[Photo]) -> Tensor:
    """Samples of the photo (3, H, W), or of both views of a stereo pair (6, H, W)."""
    if len(photos) == 1:
        return photos[0].samples  # not converted: uint8 needs a quarter of the memory of float32
    sizes = ["x".join(map(str, photo.samples.shape[:0:-1])) for photo in photos]
    if sizes[0] != sizes[1]:
        raise ImageError(
            f"{job.photos[0].input}: {sizes[0]} pixels, but {job.photos[1].input} has {sizes[1]}; "
            "the views of a pair must have one size"
        )
    views = [photo.samples for photo in photos]
    if views[0].dtype != views[1].dtype:
        views = [to_float(view) for view in views]
    return torch.cat(views, dim=0)


def _error_line(job: Job, error: Exception) -> str:
    """One line for the user that names a file of the job."""
    failure = describe_failure(error)
    if failure.is_internal and is_debugging():
        logger.error("%s", failure.text, exc_info=error)
    files = [path for file in job.photos for path in (file.input, file.output)]
    # A message shortens a long path in its middle.
    starts = [form(path)[:_NAME] for path in files for form in (printable, one_line)]
    is_named = any(start in failure.text for start in starts)
    return failure.text if is_named else f"{printable(files[0], _NAME)}: {failure.text}"
