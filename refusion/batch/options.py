"""Options that all photos of a batch share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refusion.batch.disparity_maps import DisparityMaps
from refusion.batch.prompts import PromptFiles
from refusion.images.io import MAX_PIXELS
from refusion.restorers.base import NO_CONDITIONS, Conditions, RestorerInfo
from refusion.sde import find_sampler


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
        quality: quality of results in JPEG and WebP, 1..100; None for that of each photo.
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
    quality: int | None = None


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
    if "noise_std" in info.optional:  # the process starts at the photo itself
        if steps > 1 and find_sampler(sampler).is_random:
            return None
        return (
            "samples: all samples are equal, because no noise is added on the way; add "
            "--sampler posterior --steps 10"
        )
    if not info.stochastic:
        return "samples: all samples are equal, because this model does not depend on the seed"
    if steps == 1 and sampler.partition("@")[0] != "euler":
        return (
            "samples: with one step the seed changes only the initial noise, so the measured "
            "uncertainty is too small; use 4 steps"
        )
    return None
