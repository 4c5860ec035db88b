"""Functions that all restorers share: the check of options, and the conversion of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.images.samples import is_integer, store


def check_options(
    batch: int, seed: int | Sequence[int], tile: int | Literal["auto"] | None, strength: float
) -> None:
    """Check the options of `Restorer.restore` whose valid values are the same for all restorers.

    Args:
        batch: number of photos.
        seed: see `Restorer.restore`.
        tile: see `Restorer.restore`.
        strength: see `Restorer.restore`.

    Raises:
        ConfigError: an option is out of range, or the number of seeds is not the number of photos.
    """
    if not isinstance(seed, int) and len(seed) != batch:
        raise ConfigError(f"seed: expected one or {batch}, one per photo, got {len(seed)}")
    if tile not in ("auto", None) and not (isinstance(tile, int) and tile >= 1):
        raise ConfigError(f"tile: expected 'auto' or pixels from 1, got {tile!r}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength: expected 0..1, got {strength!r}")


def match_dtype(result: Tensor, lq: Tensor) -> Tensor:
    """Convert restored photos to the dtype of the degraded photos.

    Args:
        result: restored photos, float, not clamped, or integers with the dtype of `lq`. Floats are
            clamped in place, so `result` must not be `lq` itself.
        lq: degraded photos, float or integers.

    Returns:
        float32 clamped to [0, 1], or integers over the full range of the dtype of `lq`.
    """
    if not is_integer(lq):
        return result.clamp_(0, 1)
    if result.dtype == lq.dtype:
        return result
    samples = torch.empty(result.shape, dtype=lq.dtype, device=result.device)
    store(result, samples)
    return samples
