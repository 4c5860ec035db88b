"""Noise sources: where a sampler's randomness comes from, as an argument.

Each draw depends on its seed and its time alone, not on how many draws came before, on the batch,
the device or the dtype; so an image restored alone and in a batch gets the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Standard normal fields for a sampler."""

    def initial(self, like: Tensor) -> Tensor:
        """Field of the start state x_T, with shape, dtype and device of `like` (B, C, H, W)."""

    def step(self, t: float, like: Tensor) -> Tensor:
        """Field of the step that leaves time t, with shape, dtype and device of `like`."""


@dataclass(frozen=True)
class SeededNoise:
    """Noise that is a function of (seed, time) per image.

    Attributes:
        seed: one seed per image of the batch, or one int that every image of a batch uses (each
            then gets what it would get alone).
    """

    seed: int | Sequence[int]

    def initial(self, like: Tensor) -> Tensor:
        """See `NoiseSource`; ValueError if the number of seeds is not the batch size."""
        return self._draw("initial", like)

    def step(self, t: float, like: Tensor) -> Tensor:
        """See `NoiseSource`; ValueError if the number of seeds is not the batch size."""
        # Six digits: the last bits of a fractional time are a matter of the machine.
        return self._draw(f"step {t:g}", like)

    def _draw(self, key: str, like: Tensor) -> Tensor:
        seeds = self.seed if isinstance(self.seed, Sequence) else [self.seed] * len(like)
        if len(seeds) != len(like):
            raise ValueError(f"seed: expected {len(like)} seeds, one per image, got {len(seeds)}")
        fields = {seed: _normal(seed, key, like.shape[1:]) for seed in set(seeds)}
        return torch.stack([fields[seed] for seed in seeds]).to(like)


@dataclass(frozen=True)
class RecordedNoise:
    """Noise given in advance, to replay a trajectory.

    Attributes:
        start: field of x_T, (B, C, H, W).
        steps: fields by time, (T + 1, B, C, H, W); `steps[t]` serves the step that leaves the whole
            time t.
    """

    start: Tensor
    steps: Tensor

    def initial(self, like: Tensor) -> Tensor:
        """See `NoiseSource`."""
        return self.start.to(like)

    def step(self, t: float, like: Tensor) -> Tensor:
        """See `NoiseSource`."""
        return self.steps[int(t)].to(like)


def _normal(seed: int, key: str, shape: Sequence[int]) -> Tensor:
    # A hash, because seed + t would hand image 0 at t = 1 the field of image 1 at t = 0.
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
