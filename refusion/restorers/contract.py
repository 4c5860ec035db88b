"""What every restorer does at its borders: options checked first, results of the photos' kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from refusion.data.samples import store
from refusion.errors import ConfigError


def check_options(
    batch: int, seed: int | Sequence[int], tile: int | Literal["auto"] | None, strength: float
) -> None:
    """Refuse options of `Restorer.restore` that no restorer can use.

    Raises:
        ConfigError: names the option, what was expected and what came.
    """
    if not isinstance(seed, int) and len(seed) != batch:
        raise ConfigError(f"seed: expected one or {batch}, one per photo, got {len(seed)}")
    if tile not in ("auto", None) and not (isinstance(tile, int) and tile >= 1):
        raise ConfigError(f"tile: expected 'auto' or pixels from 1, got {tile!r}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength: expected 0..1, got {strength!r}")


def of_kind(result: Tensor, kind: torch.dtype) -> Tensor:
    """Restored photos as float32 in [0, 1], or as the integers that the photos came in."""
    if result.dtype == kind:
        return result.clamp_(0, 1) if result.is_floating_point() else result
    samples = torch.empty(result.shape, dtype=kind, device=result.device)
    store(result, samples)
    return samples
