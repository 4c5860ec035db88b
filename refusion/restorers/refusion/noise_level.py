"""Denoising of photos that have a noise level each: given, or estimated from the photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from refusion.images.noise_level import NEGLIGIBLE, estimate_noise_std
from refusion.restorers.base import Conditions
from refusion.restorers.contract import noise_levels
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
    """Restore each photo of a batch with its own noise level, by default the estimated one.

    Args:
        restore: `Restorer.restore` of a denoising model.
        sde: process of the model. Larger noise levels than its `lam` count as `lam`, and a photo
            with little noise takes fewer steps, as there are not more times.
        lq: photos (B, C, H, W), float or integers.
        conditions: conditions of the photos.
        seed: as for `Restorer.restore`.
        steps: as for `Restorer.restore`.
        options: other options of `restore`.

    Returns:
        The restored photos, like `lq`. A photo with an estimated noise level below `NEGLIGIBLE` is
        a copy.

    Raises:
        ConfigError: as for `Restorer.restore`.
    """
    if conditions.noise_std is not None:
        levels, is_given = noise_levels(conditions.noise_std, len(lq)), True
    else:
        found = conditions.estimated_noise
        found = estimate_noise_std(lq).tolist() if found is None else noise_levels(found, len(lq))
        levels, is_given = [min(level, sde.lam) for level in found], False
    seeds = [seed] * len(lq) if isinstance(seed, int) else seed
    restored = []
    for index, level in enumerate(levels):
        own = {"seed": seeds[index], "steps": steps, **options}
        if not is_given:
            own["steps"] = _possible_steps(steps, sde, level)
            own["strength"] = options["strength"] if level >= NEGLIGIBLE else 0.0
        own["conditions"] = replace(_of_photo(conditions, index), noise_std=level)
        restored.append(restore(lq[index : index + 1], **own))
    return torch.cat(restored)


def _possible_steps(steps: int | None, sde: DenoisingSDE, level: float) -> int | None:
    """The steps; fewer where an estimated noise level has fewer times. Wrong ones stay wrong."""
    possible = sde.optimal_timestep(level)
    return possible if steps is not None and possible < steps <= sde.T else steps


def _of_photo(conditions: Conditions, index: int) -> Conditions:
    """The conditions of one photo of a batch."""
    lens, guide = conditions.lens, conditions.guide
    if lens is not None and lens.ndim == 2:
        lens = lens[index]
    if guide is not None and guide.ndim == 4:
        guide = guide[index]
    return replace(conditions, lens=lens, guide=guide)
