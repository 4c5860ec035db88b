"""The photos that are measured: what a dataset has to be, and its items as batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from refusion.errors import ConfigError, ImageError, short
from refusion.images.arrays import Image, to_batch, unit_range

_ITEM = "{'lq': image, 'gt': image}"


class Photos(Protocol):
    """A finite dataset of whole photos, indexed from 0.

    An item has the degraded photo "lq". It may have the ground truth "gt", whose sides are those of
    "lq" times the restorer's scale, a "name", and the fields of `Conditions`. Images are tensors
    (3, H, W) or NumPy arrays (H, W, 3), float in [0, 1], uint8 or uint16.
    """

    def __len__(self) -> int:
        """Number of photos."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One photo."""


def count_photos(photos: Photos, limit: int | None) -> int:
    """The number of photos to measure.

    Args:
        photos: the dataset.
        limit: the largest number; None for all.

    Raises:
        ConfigError: the dataset is endless, empty or no dataset, or `limit` is no number from 1.
    """
    if isinstance(photos, str | bytes | Mapping) or not hasattr(photos, "__getitem__"):
        raise ConfigError(f"dataset: expected a list of {_ITEM}, got {short(photos)}")
    if not isinstance(limit, int | None):
        raise ConfigError(f"limit: expected a number of photos or None, got {short(limit)}")
    try:
        available = len(photos)
    except TypeError:  # an endless dataset has no length
        raise ConfigError(
            f"{type(photos).__name__} is endless and cannot be evaluated: set 'whole: true' "
            "(SyntheticPairs), remove 'patch' (PairedFolder), or set 'length'"
        ) from None
    count = available if limit is None else min(limit, available)
    if count < 1:
        raise ConfigError(f"no photos to evaluate: {available} in the dataset, limit {limit}")
    return count


def photo_at(photos: Photos, index: int) -> Mapping[str, Any]:
    """One item.

    Raises:
        ImageError: it is no mapping with the degraded photo.
    """
    item = photos[index]
    if not isinstance(item, Mapping) or "lq" not in item:
        raise ImageError(f"photo {index}: expected {_ITEM}, got {short(item)}")
    return item


def as_photo_batch(item: Mapping[str, Any], key: str) -> Tensor | None:
    """A photo, or both views of a pair, as float32 (1, C, H, W); None if the item lacks the key."""
    if key not in item:
        return None
    image = item[key]
    shape = image.shape if isinstance(image, Image) else ()
    channels = shape[2:3] if isinstance(image, np.ndarray) else shape[-3:-2]
    return unit_range(to_batch(key, image, 6 if tuple(channels) == (6,) else 3))
