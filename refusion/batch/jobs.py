"""Batches of files, restored one after the other.

One damaged photo does not stop the others, and no output is ever half written.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from refusion.batch.disparity_maps import ConditionedPhoto, DisparityMaps
from refusion.batch.plan import Job
from refusion.batch.prompts import PromptFiles
from refusion.batch.uncertainty import write_map
from refusion.errors import ConfigError, ImageError, RefusionError
from refusion.images.io import MAX_PIXELS, check_place, read_image, write_image
from refusion.images.photo import Photo
from refusion.images.resize import resize_like, shrink
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, Restorer, RestorerInfo
from refusion.restorers.statistics import mean_and_std
from refusion.tiling.memory import is_out_of_memory

_HALF = 800  # longer side in pixels of each half of a comparison, at most


@dataclass(frozen=True)
class RestoreOptions:
    """What applies to every photo of a batch; see `Restorer.restore`.

    Attributes:
        steps: see there, as the next five.
        sampler: key of `SAMPLERS`.
        seed: of the noise; of several samples the first one's, the others count on from it.
        tile: side of the tiles in pixels.
        conditions: what the model must be told of the photos.
        maps: disparity maps of a bokeh model; they replace `conditions`.
        prompts: what says of each photo what it shows; `conditions` then says all else.
        strength: how far to go from the photo to its restoration, 0..1.
        samples: results drawn of each photo; their mean is written.
        max_pixels: the largest photo that is decoded.
        skip_existing: leave a job alone whose files are all there.
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
    skip_existing: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        error: one line, None if all outputs are there.
        skipped: whether they were there before and were left as they are.
        seconds: wall-clock time of the stages begun: 'read', 'restore', 'write'.
        sizes: width and height in pixels of each photo, upright; empty if they were not read.
    """

    job: Job
    error: str | None = None
    skipped: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()


JobProgress = Callable[[int, Job, str, int, int], None]
"""Called as `(number of the job from 0, job, stage, done, total)`; see `Progress`.

Of several samples the stage is 'draw', counted when each is complete; a job that is skipped has
the one stage 'skip'.
"""


def run_jobs(
    jobs: Sequence[Job],
    restorer: Restorer,
    options: RestoreOptions,
    progress: JobProgress | None = None,
    finished: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Restore the photos one after the other; a photo that fails is reported, the rest go on.

    Args:
        jobs: from `plan_jobs`.
        restorer: what restores.
        options: for every photo; each uses the same seed, so its place in the batch is no matter.
        progress: told of each stage of each job.
        finished: told of each outcome at once, so that what was done before an interrupt is known.

    Returns:
        One outcome per job, in their order.

    Raises:
        ConfigError: an option is wrong, which would fail every photo.
    """
    if options.samples < 2 and any(file.uncertainty for job in jobs for file in job.photos):
        raise ConfigError(
            f"uncertainty: a spread needs 2 samples or more, got {options.samples}; add --samples 8"
        )
    outcomes = []
    for number, job in enumerate(jobs):
        outcomes.append(_run(number, job, restorer, options, progress))
        if finished is not None:
            finished(outcomes[-1])
    return outcomes


def sampling_warning(info: RestorerInfo, settings: RestoreOptions) -> str | None:
    """Why draws would differ less than the model's doubt, or not at all; None if they do not."""
    steps, sampler = settings.steps or info.steps, settings.sampler or info.sampler
    if settings.samples == 1:
        return None
    if not info.stochastic:
        return "samples: the result of this model does not depend on the seed"
    if steps == 1 and sampler.partition("@")[0] != "euler":
        return (
            "samples: in one step the seed draws the start alone, and the spread comes out too "
            "small; take 4 steps"
        )
    return None


class _Record:
    """What is found out about a job while it runs, however it ends."""

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

    if options.skip_existing and job.is_done:
        tell("skip", 1, 1)
        return Outcome(job, skipped=True)
    record, error = _Record(), None
    try:
        _restore(job, restorer, options, tell, record)
    except ConfigError:
        raise
    except (RefusionError, OSError, MemoryError, RuntimeError) as caught:
        if isinstance(caught, RuntimeError) and not is_out_of_memory(caught):
            raise
        error = _reason(job, caught)
    return Outcome(job, error, seconds=record.seconds, sizes=record.sizes)


def _restore(
    job: Job, restorer: Restorer, options: RestoreOptions, tell: Progress, record: _Record
) -> None:
    tell("read", 0, 1)
    if len(job.photos) < restorer.info.views:
        raise ImageError(
            f"{job.photos[0].input}: no partner; the model restores the two views of a stereo "
            "pair together, NAME_L and NAME_R with the same ending"
        )
    with record.timed("read"):
        photos = [read_image(file.input, max_pixels=options.max_pixels) for file in job.photos]
    record.sizes = tuple((photo.samples.shape[2], photo.samples.shape[1]) for photo in photos)
    # Now: it may fail, and restoring is long.
    for file, photo, size in zip(job.photos, photos, record.sizes, strict=True):
        width, height = (side * restorer.info.scale for side in size)
        check_place(file.output, photo, width, height)
        for small in file.written[1:]:
            check_place(small, None, 1, 1)
    with record.timed("restore"):
        result, spread = _result(restorer, _conditioned(job, photos, options), options, tell)
    if restorer.info.colours:
        photos = [photo.in_colour() for photo in photos]
    tell("write", 0, 1)
    with record.timed("write"):
        _write(job, photos, result, spread)
    tell("write", 1, 1)


def _conditioned(job: Job, photos: Sequence[Photo], options: RestoreOptions) -> ConditionedPhoto:
    """The photo, or the views of a pair stacked, with what the model must know."""
    samples = _together(job, photos)
    if options.samples > 1:
        # For the results to be so: rounded ones would differ by their rounding.
        samples = to_float(samples)
    if options.maps is None:
        conditions = options.conditions
        if options.prompts is not None:
            conditions = replace(conditions, prompt=options.prompts.of(job.photos[0].input))
        return ConditionedPhoto(samples[None], conditions, samples, strength=options.strength)
    return options.maps.conditioned(samples, job.photos[0].input, options.strength)


def _result(
    restorer: Restorer, conditioned: ConditionedPhoto, options: RestoreOptions, tell: Progress
) -> tuple[Tensor, Tensor | None]:
    """Restored photo (3 * views, H, W); of several samples their mean, and spread (views, H, W)."""

    def draw(seed: int, callback: Progress | None) -> Tensor:
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
        return draw(options.seed, tell), None

    def draws() -> Iterator[Tensor]:
        for number in range(options.samples):
            yield draw(options.seed + number, None)
            tell("draw", number + 1, options.samples)

    return mean_and_std(draws())


def _write(job: Job, photos: Sequence[Photo], result: Tensor, spread: Tensor | None) -> None:
    for view, (file, photo) in enumerate(zip(job.photos, photos, strict=True)):
        restored = result[3 * view : 3 * view + 3]
        write_image(file.output, restored, photo)
        if file.compare is not None:
            both = _side_by_side(photo.samples, restored.cpu())
            write_image(file.compare, both, Photo(both, mode=photo.mode, icc=photo.icc))
        if file.uncertainty is not None:
            write_map(file.uncertainty, spread[view])


def _together(job: Job, photos: Sequence[Photo]) -> Tensor:
    """Samples of the photo (3, H, W), or of the views of a pair stacked (6, H, W)."""
    if len(photos) == 1:
        return photos[0].samples  # as they are: 8 bits take a quarter of their floats
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


def _side_by_side(before: Tensor, after: Tensor) -> Tensor:
    """Samples of input and result (3, H, W), as floats at one size, the former on the left."""
    before, after = (shrink(image[None], _HALF) for image in (before, after))
    return torch.cat([resize_like(before, after), after], dim=-1)[0]


def _reason(job: Job, error: BaseException) -> str:
    first = job.photos[0].input
    if is_out_of_memory(error):
        return f"{first}: not enough memory; try --tile 256, or restore a smaller photo"
    text = " ".join(str(error).split()) or type(error).__name__
    is_named = any(str(path) in text for file in job.photos for path in (file.input, file.output))
    return text if is_named else f"{first}: {text}"
