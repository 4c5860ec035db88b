"""Endless hazy and clean patches made from clean photos, and a validation set of whole photos."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from refusion.data.haze import GRID, HazeSettings, PhotoFrame, synthesize_haze
from refusion.data.photo_cache import PhotoCache, list_photos, to_tensor
from refusion.data.stream import PhotoStream, keyed_generator, photo_at, uniform
from refusion.errors import ConfigError, suggest

STORED_SIDE = 2048  # photos are cached at most this large: haze is a matter of the whole scene
SPLITS = ("all", "train", "held_out")


class SyntheticHaze(PhotoStream):
    """Clean photos and the same photos under synthetic haze.

    A stream of patches: `dataset[index]` is a function of (settings, seed, index), index >= 0.
    Every epoch shows each photo once, in a fresh order. With `whole=True` a finite set of whole
    photos, each with its own haze that does not change when photos are added.

    Args:
        folders: folders of clean photos, searched recursively.
        patch: side of the square patch in pixels.
        seed: seed of order, crops and haze.
        split: "all", or "train" / "held_out" by the SHA-1 of the file name.
        held_out: one photo in so many is held out.
        length: number of samples; None for an endless stream.
        scale_range: part of the photo's short side that a patch spans, (low, high) in (0, 1];
            drawn with a lean to the high end. Only photos smaller than the patch are enlarged.
        flip: mirror left and right at random.
        haze: settings of the haze by name (`HazeSettings`), or None for the defaults.
        cache: folder of decoded photos; None for the user's cache folder.
        whole: whole photos for validation instead of patches.
        max_side: longest side of whole photos in pixels.

    Raises:
        ConfigError: a folder is missing or empty, a split is empty, or an option is out of range.
    """

    def __init__(
        self,
        *,
        folders: Sequence[str | Path],
        patch: int = 256,
        seed: int = 0,
        split: str = "all",
        held_out: int = 16,
        length: int | None = None,
        scale_range: tuple[float, float] = (0.25, 1.0),
        flip: bool = True,
        haze: dict[str, Any] | None = None,
        cache: str | Path | None = None,
        whole: bool = False,
        max_side: int = 1024,
    ) -> None:
        low, high = scale_range
        if not 0 < low <= high <= 1:
            raise ConfigError(f"scale_range: expected 0 < low <= high <= 1, got {scale_range}")
        if patch < 16:
            raise ConfigError(f"patch: expected at least 16 pixels, got {patch}")
        self.photos = _split(list_photos(folders), split, held_out)
        super().__init__(seed, len(self.photos) if whole else length)
        self.patch = patch
        self.scale_range = (low, high)
        self.flip = flip
        self.haze = _haze_settings(haze or {})
        self.cache = PhotoCache(cache)
        self.whole = whole
        self.max_side = max_side

    def sample(self, index: int) -> dict[str, Any]:
        """One patch of the stream, or one whole photo with its name."""
        return self._whole_photo(self.photos[index]) if self.whole else self._patch(index)

    def _patch(self, index: int) -> dict[str, Any]:
        path = self.photos[photo_at(self.seed, index, len(self.photos))]
        generator = keyed_generator(self.seed, index)
        pixels = self.cache.load(path, STORED_SIDE)
        left, top, side = _place_patch(pixels.shape, self.patch, self.scale_range, generator)
        gt = _resize(pixels[top : top + side, left : left + side], self.patch)
        thumbnail = to_tensor(self.cache.load(path, GRID))
        height, width, _ = pixels.shape
        box = (left / width, top / height, (left + side) / width, (top + side) / height)
        is_mirrored = uniform(generator, 0, 1) < 0.5  # drawn always: `flip` changes nothing else
        if self.flip and is_mirrored:
            gt = gt.flip(-1)
            box = (box[2], box[1], box[0], box[3])
        frame = PhotoFrame(thumbnail, box)
        return {"lq": synthesize_haze(gt, generator, self.haze, frame), "gt": gt}

    def _whole_photo(self, path: Path) -> dict[str, Any]:
        gt = to_tensor(self.cache.load(path, self.max_side))
        generator = keyed_generator(self.seed, _name_hash(path))
        return {"lq": synthesize_haze(gt, generator, self.haze), "gt": gt, "name": path.stem}


def _name_hash(path: Path) -> int:
    return int.from_bytes(hashlib.sha1(os.fsencode(path.name)).digest()[:4], "big")


def _split(photos: list[Path], split: str, held_out: int) -> list[Path]:
    if split not in SPLITS:
        raise ConfigError(f"split: unknown split '{split}'{suggest(split, SPLITS)}")
    if held_out < 2:
        raise ConfigError(f"held_out: expected at least 2 (one photo in so many), got {held_out}")
    if split == "all":
        return photos
    kept = [p for p in photos if (_name_hash(p) % held_out == 0) == (split == "held_out")]
    if not kept:
        raise ConfigError(
            f"split '{split}' of {len(photos)} photos with held_out={held_out} is empty; "
            "give more photos or another held_out"
        )
    return kept


def _haze_settings(options: dict[str, Any]) -> HazeSettings:
    known = {field.name for field in dataclasses.fields(HazeSettings)}
    for name in options:
        if name not in known:
            raise ConfigError(f"haze: unknown setting '{name}'{suggest(name, known)}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return HazeSettings(**values)


def _place_patch(
    shape: tuple[int, ...], patch: int, scale_range: tuple[float, float], generator: Generator
) -> tuple[int, int, int]:
    """Square (left, top, side) of the photo that the patch shows, leaning to most of the scene."""
    height, width = shape[:2]
    short = min(height, width)
    low, high = (min(1.0, max(part, patch / short)) for part in scale_range)
    side = round(short * (low + (high - low) * uniform(generator, 0, 1) ** 0.6))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    top = int(torch.randint(height - side + 1, (), generator=generator))
    return left, top, side


def _resize(pixels: np.ndarray, side: int) -> Tensor:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return to_tensor(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))
