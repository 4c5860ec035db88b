"""Base class of the photo datasets: each sample is a function of (settings, seed, index)."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from refusion.errors import ConfigError
from refusion.randomness import keyed_generator

ORDER_KEY = 0x0D  # key of the generator for the order of photos, different from that of the samples


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=keyed_generator(seed, epoch, ORDER_KEY, count))


def photo_at(seed: int, index: int, count: int) -> int:
    """Index of the photo that a sample of an endless stream uses.

    Each epoch of `count` samples uses every photo once, in a random order that depends on
    (seed, epoch).

    Args:
        seed: seed of the stream, >= 0.
        index: index of the sample, >= 0.
        count: number of photos.

    Returns:
        An index in 0..count - 1.
    """
    epoch, position = divmod(index, count)
    return int(_epoch_order(seed, epoch, count)[position])


def check_crop(patch: int | None, scale: int = 1, swap: float = 0.0) -> None:
    """Check the settings of datasets of crops.

    Args:
        patch: side of the crop in pixels, or None for whole photos.
        scale: ratio of the sides of clean and degraded photo.
        swap: share of the crops with exchanged images.

    Raises:
        ConfigError: `scale` is below 1, `patch` is not a positive multiple of it, or `swap` is not
            in [0, 1].
    """
    if scale < 1:
        raise ConfigError(f"scale: expected at least 1, got {scale}")
    if patch is not None and (patch < 1 or patch % scale):
        raise ConfigError(f"patch: expected a multiple of the scale {scale}, got {patch}")
    if not 0 <= swap <= 1:
        raise ConfigError(f"swap: expected a share from 0 to 1, got {swap}")


class PhotoStream(Dataset[dict[str, Any]], ABC):
    """Base class of the photo datasets, with a seed and a finite or infinite length.

    Args:
        seed: seed of all random choices, >= 0.
        length: number of samples; None for an endless stream of patches, or for all whole photos.
        photos: number of photos of a dataset of whole photos, of which the first `length` are used;
            None for a stream of patches.

    Raises:
        ConfigError: `seed` or `length` is out of range.
    """

    def __init__(self, seed: int, length: int | None, photos: int | None = None) -> None:
        if seed < 0:
            raise ConfigError(f"seed: expected an integer >= 0, got {seed}")
        if length is not None and length < 1:
            raise ConfigError(f"length: expected at least 1, or null for all, got {length}")
        self.seed = seed
        self.length = length if photos is None else min(photos, length or photos)

    def __len__(self) -> int:
        """Number of samples.

        Raises:
            TypeError: the stream is endless.
        """
        if self.length is None:
            raise TypeError("an endless stream has no length; set length=, or use any index >= 0")
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: index of the sample, >= 0 and below the length.

        Returns:
            "lq" (C, h, w) and "gt" (C, H, W) float32 in [0, 1]; C is 3, or 6 for the left and right
            view of a stereo pair. For super-resolution, H is a multiple of h, otherwise H = h.
            Some datasets add "lens" (3,): source lens, target lens and disparity; "guide"
            (2, h, w); or "noise_std" (), relative to full scale. Whole photos also have "name".

        Raises:
            IndexError: the index is out of range.
        """
        if index < 0 or (self.length is not None and index >= self.length):
            raise IndexError(f"index {index} is outside a {type(self).__name__} of {self.length}")
        return self.sample(index)

    def photos_of(self, index: int) -> tuple[Path, ...]:
        """Paths of the photos that a sample is made of, for messages; empty if it has none."""
        return ()

    @abstractmethod
    def sample(self, index: int) -> dict[str, Any]:
        """Return the item at a valid index; it depends on (settings, seed, index) only."""
