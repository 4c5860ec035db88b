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
from typing import Literal

import torch
from torch import Tensor

from refusion.batch.disparity_maps import ConditionedPhoto, DisparityMaps
from refusion.batch.haze_maps import HazeRecorder
from refusion.batch.limits import check_results
from refusion.batch.plan import Job
from refusion.batch.prompts import PromptFiles
from refusion.batch.reading import PhotoReader
from refusion.batch.writing import Results, ResultWriter
from refusion.errors import ConfigError, ImageError, one_line, printable
from refusion.failures import describe_failure, is_debugging
from refusion.images.io import MAX_PIXELS, check_place
from refusion.images.photo import Photo
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, Restorer, RestorerInfo
from refusion.restorers.statistics import mean_and_std

logger = logging.getLogger(__name__)

_NAME = 400  # characters of a path in a message


@dataclass(frozen=True)
class RestoreOptions:
    """Options for all photos of a batch; see `Restorer.restore`.

    Attributes:
        steps: sampling steps; None for the model's default.
        sampler: name of a sampler; None for the model's default.
        seed: seed of the noise; sample number k of a photo uses seed + k.
        tile: side of the tiles in pixels, 'auto', or None for no tiles.
        conditions: conditions of the model, the same for all photos.
        maps: disparity maps for a bokeh model; they replace `conditions`.
        prompts: folder of texts, one per photo; a text replaces the prompt in `conditions`.
        strength: strength of the restoration, see `Restorer.restore`.
        samples: number of samples per photo; their mean is written.
        max_pixels: larger photos are refused before they are decoded.
        max_memory: maximum number of bytes of the process; photos whose decoding needs more are
            refused before. None for no limit. The restorer has its own limit.
        skip_existing: skip a job if all its output files exist.
    """

    steps: int | None = None
    sampler: str | None = None
    seed: int = 0
    tile: int | Literal["auto"] | None = "auto"
    conditions: Conditions = NO_CONDITIONS
    maps: DisparityMaps | None = None
    prompts: PromptFiles | None = None
    strength: float = 1.0
    samples: int = 1
    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None
    skip_existing: bool = False


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
    """

    job: Job
    error: str | None = None
    skipped: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()


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


def sampling_warning(info: RestorerInfo, settings: RestoreOptions) -> str | None:
    """Warn if the samples of a photo differ too little to show the uncertainty of the model.

    Args:
        info: description of the restorer.
        settings: options of the batch.

    Returns:
        One line for the user; None if there is nothing to warn of.
    """
    steps, sampler = settings.steps or info.steps, settings.sampler or info.sampler
    if settings.samples == 1 or settings.conditions.haze.draw:
        return None
    if not info.stochastic:
        return "samples: all samples are equal, because this model does not depend on the seed"
    if steps == 1 and sampler.partition("@")[0] != "euler":
        return (
            "samples: with one step the seed changes only the initial noise, so the measured "
            "uncertainty is too small; use 4 steps"
        )
    return None


class _Measurements:
    """Times and sizes of a job, collected while it runs and kept if it fails."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.sizes: tuple[tuple[int, int], ...] = ()

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
        if reports:
            self._report("write", 1, 1)

    def _end(self, error: Exception | None) -> None:
        """End with an outcome; an unexpected error must not take the other photos with it."""
        if isinstance(error, ConfigError):
            raise error
        line = None if error is None else _error_line(self.job, error)
        seconds, sizes = self.measured.seconds, self.measured.sizes
        self.ended(Outcome(self.job, line, seconds=seconds, sizes=sizes))

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
        recorder = None if job.photos[0].haze_map is None else HazeRecorder(restorer)
        result, deviation = _result(recorder or restorer, conditioned, options, report)
    if restorer.info.colours:
        photos = [photo.in_colour() for photo in photos]
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
