"""How a run of `refusion test` restores and measures photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from refusion.evaluation.learned_metrics import MetricFiles


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run that its numbers depend on, except the model and the photos.

    An interrupted run is only continued with equal options.

    Attributes:
        steps: network evaluations per photo; None for the model's default.
        sampler: key of `refusion.sde.SAMPLERS`; None for the model's default.
        seed: of the noise.
        tile: side of the tiles in pixels, or 'auto'; None for no tiles.
        limit: number of photos of each set, the first ones; None for all.
        max_side: longest side in pixels; larger photos were shrunk to it. None for full size.
        crop_border: pixels cut off every side before measuring.
        baselines: names of `BASELINES`.
        metric_files: files of the learned metrics.
        conditions: what the user states about all photos, by the option's key.
        file: options file that names the model or the sets; None if there is none.
        plugins: names of the modules that were imported as plug-ins.
    """

    steps: int | None = None
    sampler: str | None = None
    seed: int = 0
    tile: int | Literal["auto"] | None = "auto"
    limit: int | None = None
    max_side: int | None = None
    crop_border: int = 0
    baselines: tuple[str, ...] = ()
    metric_files: MetricFiles = field(default_factory=MetricFiles)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    plugins: tuple[str, ...] = ()
