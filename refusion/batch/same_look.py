"""One look for a series of photos: the colour of the haze and the exposure of the first photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refusion.batch.limits import read_photos
from refusion.batch.plan import Job
from refusion.errors import ConfigError
from refusion.restorers.base import HazeOptions, Restorer


def look_of_first(
    jobs: Sequence[Job],
    restorer: Restorer,
    haze: HazeOptions,
    strength: float,
    *,
    max_pixels: int,
    max_memory: int | None,
    **how: Any,
) -> HazeOptions:
    """Options with which all photos of a batch get the look of its first photo.

    The result depends on the first photo of the list only. So it is the same if the result of that
    photo exists and is skipped, and in every one of several processes.

    Args:
        jobs: all jobs of the batch, from `plan_jobs`.
        restorer: has `decompose`, such as the result of `load_restorer` for a model that predicts
            haze.
        haze: options of the user; a given airlight and a given exposure stay.
        strength: strength of the restoration, which an automatic exposure depends on.
        max_pixels: a larger photo is refused before it is decoded.
        max_memory: maximum number of bytes of the process; None for no limit.
        how: steps, sampler, seed and tile, see `Restorer.restore`.

    Raises:
        ImageError: the first photo cannot be read.
        ConfigError: the first photo has no haze.
    """
    if haze.airlight is not None and haze.exposure != "auto":
        return haze  # of the first photo no value is used, so it may have no haze
    (photo,) = read_photos(jobs[0], restorer.info, max_pixels, max_memory)
    found = restorer.decompose(photo.samples[None], **how).haze
    if not found.has_haze.item():
        raise ConfigError(
            f"same look: the first photo, '{jobs[0].photos[0].input}', has no haze; begin the list "
            "with a photo that has haze, or give --airlight and --exposure as numbers"
        )
    return found.look(strength, haze)
