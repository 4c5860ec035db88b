"""Base of the photo datasets: streams of samples that are functions of (seed, index) alone."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from refusion.errors import ConfigError
from refusion.randomness import keyed_generator

ORDER_KEY = 0x0D  # keeps the order of photos apart from what happens to each of them


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=keyed_generator(seed, epoch, ORDER_KEY, count))


def photo_at(seed: int, index: int, count: int) -> int:
    """Which of `count` photos the sample `index` of an endless stream shows.

    Each run of `count` samples shows every photo once, in a fresh order per (seed, epoch).
    """
    epoch, position = divmod(index, count)
    return int(_epoch_order(seed, epoch, count)[position])


def check_crop(patch: int | None, scale: int = 1, swap: float = 0.0) -> None:
    """Refuse what no dataset of crops can do.

    Raises:
        ConfigError: `scale` is no positive number, `patch` no multiple of it, `swap` no share.
    """
    if scale < 1:
        raise ConfigError(f"scale: expected at least 1, got {scale}")
    if patch is not None and (patch < 1 or patch % scale):
        raise ConfigError(f"patch: expected a multiple of the scale {scale}, got {patch}")
    if not 0 <= swap <= 1:
        raise ConfigError(f"swap: expected a share from 0 to 1, got {swap}")


class PhotoStream(Dataset[dict[str, Any]], ABC):
    """Base of the photo datasets: a seed, and a length that may be endless.

    Args:
        seed: non-negative seed of everything random.
        length: number of samples; None for an endless stream, of photos for all of them.
        photos: number of photos of a set of whole ones, of which `length` keeps the first; None
            for a stream of patches.

    Raises:
        ConfigError: seed or length out of range.
    """

    def __init__(self, seed: int, length: int | None, photos: int | None = None) -> None:
        if seed < 0:
            raise ConfigError(f"seed: expected an integer >= 0, got {seed}")
        if length is not None and length < 1:
            raise ConfigError(f"length: expected at least 1, or null for all, got {length}")
        self.seed = seed
        self.length = length if photos is None else min(photos, length or photos)

    def __len__(self) -> int:
        """Number of samples; an endless stream has none and raises TypeError."""
        if self.length is None:
            raise TypeError("an endless stream has no length; give length=, or index it freely")
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample.

        Returns:
            "lq" (C, h, w) and "gt" (C, H, W) float32 in [0, 1], C = 3, or 6 for the left and right
            view of a stereo pair; for super-resolution H is a multiple of h, else equal. Where it
            applies "lens" (3,), source, target and disparity, and "noise_std" () in [0, 1] units.
            Of whole photos also "name".
        """
        if index < 0 or (self.length is not None and index >= self.length):
            raise IndexError(f"index {index} is outside a {type(self).__name__} of {self.length}")
        return self.sample(index)

    @abstractmethod
    def sample(self, index: int) -> dict[str, Any]:
        """The item at a valid index, a function of (settings, seed, index) alone."""
