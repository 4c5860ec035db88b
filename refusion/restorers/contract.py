"""What every restorer does first and last: check its options, and return the dtype it was given."""

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
    """Refuse values of options of `Restorer.restore` that are invalid for every restorer.

    Raises:
        ConfigError: names the option, what was expected and what came.
    """
    if not isinstance(seed, int) and len(seed) != batch:
        raise ConfigError(f"seed: expected one or {batch}, one per photo, got {len(seed)}")
    if tile not in ("auto", None) and not (isinstance(tile, int) and tile >= 1):
        raise ConfigError(f"tile: expected 'auto' or pixels from 1, got {tile!r}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength: expected 0..1, got {strength!r}")


def match_dtype(result: Tensor, lq: Tensor) -> Tensor:
    """Convert restored photos to the dtype of the degraded ones.

    Returns:
        float32 clamped to [0, 1], or integers over the full range of the dtype of `lq`.

    Floats are clamped in place: `result` must not be `lq` itself.
    """
    if not is_integer(lq):
        return result.clamp_(0, 1)
    if result.dtype == lq.dtype:
        return result
    samples = torch.empty(result.shape, dtype=lq.dtype, device=result.device)
    store(result, samples)
    return samples
