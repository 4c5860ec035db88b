"""One look for a series of photos: the same colour of the haze and the same exposure for all.

The look is that of the first photo, or the median of all photos. The strength of the restoration is
an option with the same value for all photos anyway.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from refusion.batch.limits import read_photos
from refusion.batch.plan import Job
from refusion.devices.processes import SINGLE_PROCESS, World
from refusion.errors import ConfigError
from refusion.failures import describe_failure
from refusion.images.resize import shrink
from refusion.restorers.base import HazeOptions, Restorer
from refusion.restorers.refusion.decomposition import Decomposition

SIDE = 1024
"""Long side in pixels of the copies of which the median look is made."""

logger = logging.getLogger(__name__)
_READERS = logging.getLogger("refusion.images")


@dataclass(frozen=True)
class SeriesLook:
    """The look of a series.

    Attributes:
        haze: options for all photos, with an airlight and an exposure as numbers.
        photo: the photo that gives the look; None for the median.
        count: number of photos that the median is made of; 1 for one photo.
    """

    haze: HazeOptions
    photo: Path | None
    count: int = 1


def look_of_first(
    jobs: Sequence[Job],
    restorer: Restorer,
    haze: HazeOptions,
    strength: float,
    *,
    max_pixels: int,
    max_memory: int | None,
    **how: Any,
) -> SeriesLook | None:
    """Options with which all photos of a batch get the look of its first photo.

    A photo that cannot be read is left out with a warning; then the next one gives the look. The
    result depends on the list of photos only. So it is the same if results exist and are skipped,
    and in every one of several processes.

    Args:
        jobs: all jobs of the batch, from `plan_jobs`.
        restorer: has `decompose`, such as the result of `load_restorer` for a model that predicts
            haze.
        haze: options of the user; a given airlight and a given exposure stay.
        strength: strength of the restoration, which an automatic exposure depends on.
        max_pixels: a larger photo is refused before it is decoded.
        max_memory: maximum number of bytes of the process; None for no limit.
        how: steps, sampler, seed and tile, see `Restorer.restore`.

    Returns:
        The look; None if no photo can be read.

    Raises:
        ConfigError: the first readable photo has no haze.
    """
    for job in jobs:
        path = job.photos[0].input
        if haze.airlight is not None and haze.exposure != "auto":
            return SeriesLook(haze, path)  # no value of a photo is used, so it may have no haze
        try:
            found = _haze_of(job, restorer, None, max_pixels, max_memory, how)
        except ConfigError:
            raise
        except Exception as error:  # the photo is reported again when it is restored
            logger.warning(
                "same look: %s; the next photo gives the look", describe_failure(error).text
            )
            continue
        if not found.has_haze.item():
            raise ConfigError(
                f"same look: the first photo, '{path}', has no haze; begin the list with a photo "
                "that has haze, take --same-look median, or give --airlight and --exposure as "
                "numbers"
            )
        return SeriesLook(found.look(strength, haze), path)
    return None


def look_of_median(
    jobs: Sequence[Job],
    restorer: Restorer,
    haze: HazeOptions,
    strength: float,
    *,
    max_pixels: int,
    max_memory: int | None,
    world: World = SINGLE_PROCESS,
    progress: Callable[[int, Job], None] = lambda number, job: None,
    **how: Any,
) -> SeriesLook | None:
    """Options with which all photos of a batch get the median look of those that have haze.

    The median is taken for each channel of the airlight, and for the exposure. The photos are read,
    and the network runs on small copies of them. Photos that cannot be read, or have no haze, do
    not count.

    Args:
        jobs: all jobs of the batch.
        restorer: as in `look_of_first`.
        haze: options of the user; a given airlight and a given exposure stay.
        strength: strength of the restoration.
        max_pixels: a larger photo does not count.
        max_memory: maximum number of bytes of the process; None for no limit.
        world: the processes, which divide the photos.
        progress: called with the number of each photo of this process, counted from 0, and its job.
        how: steps, sampler, seed and tile, see `Restorer.restore`.

    Returns:
        The look; None if no photo can be read.

    Raises:
        ConfigError: no photo has haze.
    """
    looks, read = [], 0
    for number, job in enumerate(jobs[world.rank :: world.size]):
        progress(number, job)
        with contextlib.suppress(Exception):  # the photo is reported when it is restored
            found = _haze_of(job, restorer, SIDE, max_pixels, max_memory, how)
            read += 1
            if found.has_haze.item():
                looks.append(found.look(strength, haze))
    shares = world.gathered((looks, read))
    looks = [look for share, _ in shares for look in share]
    if not looks:
        if any(count for _, count in shares):
            raise ConfigError(
                "same look: no photo has haze; leave --same-look out, or give --airlight and "
                "--exposure as numbers"
            )
        return None
    airlight = tuple(map(median, zip(*(look.airlight for look in looks), strict=True)))
    exposure = median(look.exposure for look in looks)
    return SeriesLook(replace(haze, airlight=airlight, exposure=exposure), None, len(looks))


def _haze_of(
    job: Job,
    restorer: Restorer,
    side: int | None,
    max_pixels: int,
    max_memory: int | None,
    how: dict[str, Any],
) -> Decomposition:
    """The haze of a photo, or of a copy of it with a long side of `side` pixels."""
    with _without_warnings():
        (photo,) = read_photos(job, restorer.info, max_pixels, max_memory)
    samples = photo.samples[None]
    return restorer.decompose(samples if side is None else shrink(samples, side), **how).haze


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Context without warnings about a file, which come again when the photo is restored."""
    before = _READERS.level
    _READERS.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _READERS.setLevel(before)
