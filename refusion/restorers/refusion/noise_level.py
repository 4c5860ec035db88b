"""Denoising of photos whose noise level is not given: it is estimated for each photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from refusion.images.noise_level import NEGLIGIBLE, estimate_noise_std
from refusion.restorers.base import Conditions
from refusion.sde import DenoisingSDE


def restore_with_own_levels(
    restore: Callable[..., Tensor],
    sde: DenoisingSDE,
    lq: Tensor,
    conditions: Conditions,
    *,
    seed: int | Sequence[int],
    steps: int | None,
    **options: Any,
) -> Tensor:
    """Restore each photo of a batch with its estimated noise level.

    Args:
        restore: `Restorer.restore` of a denoising model.
        sde: process of the model. Larger noise levels than its `lam` count as `lam`, and a photo
            with little noise takes fewer steps, as there are not more times.
        lq: photos (B, C, H, W), float or integers.
        conditions: other conditions of the photos.
        seed: as for `Restorer.restore`.
        steps: as for `Restorer.restore`.
        options: other options of `restore`.

    Returns:
        The restored photos, like `lq`. A photo with a noise level below `NEGLIGIBLE` is a copy.

    Raises:
        ConfigError: as for `Restorer.restore`.
    """
    levels = [min(level, sde.lam) for level in estimate_noise_std(lq).tolist()]
    seeds = [seed] * len(lq) if isinstance(seed, int) else seed
    restored = []
    for index, level in enumerate(levels):
        strength = options["strength"] if level >= NEGLIGIBLE else 0.0
        possible = sde.optimal_timestep(level)
        is_limited = steps is not None and possible < steps <= sde.T
        restored.append(
            restore(
                lq[index : index + 1],
                seed=seeds[index],
                steps=possible if is_limited else steps,
                conditions=replace(_of_photo(conditions, index), noise_std=level),
                **options | {"strength": strength},
            )
        )
    return torch.cat(restored)


def _of_photo(conditions: Conditions, index: int) -> Conditions:
    """The conditions of one photo of a batch."""
    lens, guide = conditions.lens, conditions.guide
    if lens is not None and lens.ndim == 2:
        lens = lens[index]
    if guide is not None and guide.ndim == 4:
        guide = guide[index]
    return replace(conditions, lens=lens, guide=guide)
