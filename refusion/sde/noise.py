"""Noise sources: the object that gives a sampler its random numbers.

Each noise field depends only on the seed and the time of the step. It does not depend on earlier
fields, the batch, the device or the dtype. So an image gets the same noise alone and in a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Interface of all noise sources: standard normal fields for a sampler."""

    def initial(self, like: Tensor) -> Tensor:
        """Noise field for the start state x_T.

        Args:
            like: (B, C, H, W); the field has its shape, dtype and device.
        """

    def step(self, t: float, like: Tensor) -> Tensor:
        """Noise field for the step that starts at time t.

        Args:
            t: time, 0 < t <= T.
            like: (B, C, H, W); the field has its shape, dtype and device.
        """


@dataclass(frozen=True)
class SeededNoise:
    """Noise that is a function of (seed, time) for each image.

    Attributes:
        seed: one seed per image of the batch, or one int for all images. With one int all images
            of the batch get the same noise field.
    """

    seed: int | Sequence[int]

    def initial(self, like: Tensor) -> Tensor:
        """See `NoiseSource`; ValueError if the number of seeds is not the batch size."""
        return self._field("initial", like)

    def step(self, t: float, like: Tensor) -> Tensor:
        """See `NoiseSource`; ValueError if the number of seeds is not the batch size."""
        # Six digits, because the last bits of a fractional time differ between machines.
        return self._field(f"step {t:g}", like)

    def _field(self, key: str, like: Tensor) -> Tensor:
        seeds = self.seed if isinstance(self.seed, Sequence) else [self.seed] * len(like)
        if len(seeds) != len(like):
            raise ValueError(f"seed: expected {len(like)} seeds, one per image, got {len(seeds)}")
        fields = {seed: _normal(seed, key, like.shape[1:]) for seed in set(seeds)}
        return torch.stack([fields[seed] for seed in seeds]).to(like)


@dataclass(frozen=True)
class RecordedNoise:
    """Noise given in advance, to repeat a recorded trajectory.

    Attributes:
        start: noise field for x_T, (B, C, H, W).
        steps: noise fields by time, (T + 1, B, C, H, W); `steps[t]` is for the step that starts at
            time t, a whole number.
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
    # A hash, because seed + t would give seed 0 at t = 1 the field of seed 1 at t = 0.
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
