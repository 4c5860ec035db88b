"""Stereo pairs for super-resolution: left and right view together, stacked on the channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.data.augment import FlipRotate, aligned_crops
from refusion.data.matching import check_sizes, check_truth, match, photos_by_name
from refusion.data.stream import PhotoStream, check_crop, photo_at
from refusion.errors import ConfigError
from refusion.images.cache import FULL_SIDE, PhotoCache, to_tensor
from refusion.randomness import keyed_generator, uniform
from refusion.synthesis.camera import quantise


class StereoFolder(PhotoStream):
    """Stereo pairs and their low-resolution copies, named as Flickr1024 does.

    `0001_L.png` and `0001_R.png` are one pair. Without `patch` a finite set of whole pairs; with
    it an endless stream of crops at the same place of both views, each a function of (seed, index).

    Quarter turns and transpositions are left out: they would make the disparity vertical, and
    the views of a rectified pair differ along their rows only. A mirrored pair is one again when
    its views change places, which is what `flip` does.

    Args:
        gt: folder of pairs in full resolution; None, for whole pairs only, gives items without
            "gt".
        lq: folder of the same names in low resolution; None makes them of `gt` by bicubic
            downsampling with antialiasing, rounded to 8 bits.
        scale: how many times larger `gt` is.
        patch: side of the full-resolution crop in pixels, a multiple of `scale`; None for whole
            pairs, which without `lq` lose the rows and columns beyond a multiple of `scale`.
        left_suffix: end of the left view's name, before the file ending.
        right_suffix: end of the right view's name.
        flip: mirror with exchange of views, and turn upside down, at random (crops only).
        seed: seed of order and crops.
        length: number of crops, or of whole pairs, the first ones; None for all.
        cache: folder of decoded photos; None for the user's cache folder.

    Raises:
        ConfigError: a folder is missing or empty, a view has no partner, sizes do not fit, there
            are crops without ground truth, or an option is out of range.
    """

    def __init__(
        self,
        *,
        gt: str | Path | None,
        lq: str | Path | None = None,
        scale: int = 4,
        patch: int | None = None,
        left_suffix: str = "_L",
        right_suffix: str = "_R",
        flip: bool = True,
        seed: int = 0,
        length: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        check_crop(patch, scale)
        if left_suffix == right_suffix:
            raise ConfigError(f"right_suffix: '{right_suffix}' is the left_suffix too")
        check_truth("gt", patch, is_there=gt is not None)
        folders = {role: path for role, path in (("lq", lq), ("gt", gt)) if path is not None}
        if not folders:
            raise ConfigError("gt: no folder of photos; give gt, lq or both")
        self.pairs = _find_pairs(folders, (left_suffix, right_suffix))
        super().__init__(seed, length, len(self.pairs) if patch is None else None)
        self.scale = scale
        self.patch = patch
        self.flip = flip
        self.cache = PhotoCache(cache)
        self.is_lq_made = lq is None
        self.scales = (1, 1, scale, scale) if len(folders) == 2 else (1, 1)
        side = patch and patch // self.scales[-1]
        check_sizes([paths for _, *paths in self.pairs], self.scales, side, FULL_SIDE)

    def sample(self, index: int) -> dict[str, Any]:
        """One crop of the stream, or one whole pair with its name."""
        if self.patch is not None:
            return self._crop(index, self.patch)
        name, *paths = self.pairs[index]
        views = [to_tensor(self.cache.load(path, FULL_SIDE)) for path in paths]
        return {**self._stacked(views), "name": name}

    def _crop(self, index: int, patch: int) -> dict[str, Any]:
        _, *paths = self.pairs[photo_at(self.seed, index, len(self.pairs))]
        generator = keyed_generator(self.seed, index)
        photos = [self.cache.load(path, FULL_SIDE) for path in paths]
        sides = [patch * scale // self.scales[-1] for scale in self.scales]
        views = aligned_crops(photos, sides, generator)
        if self.flip:
            views = _turned(views, generator)
        return self._stacked(views)

    def _stacked(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Item of the views: left, right in low resolution, left, right in full, or one of both."""
        pairs = [torch.cat(views[first : first + 2]) for first in range(0, len(views), 2)]
        if not self.is_lq_made:
            return dict(zip(("lq", "gt"), pairs, strict=False))
        (gt,) = pairs
        height, width = (side - side % self.scale for side in gt.shape[1:])
        gt = gt[:, :height, :width].contiguous()
        return {"lq": _downsample(gt, self.scale), "gt": gt}


def _find_pairs(folders: dict[str, str | Path], suffixes: tuple[str, str]) -> list[tuple[Any, ...]]:
    """(name, left, right) of every pair, those of the first folder first."""
    groups, views = {}, []  # two roles of one folder are one group
    for role, folder in folders.items():
        found = photos_by_name(folder, suffixes, role, "left_suffix or right_suffix")
        groups |= {f"{folder}, {end}": one for end, one in zip(suffixes, found, strict=True)}
        views += found
    names = match(groups, "a pair needs both views, in each folder; add or remove them")
    return [(name, *(photos[name] for photos in views)) for name in names]


def _turned(views: list[Tensor], generator: Generator) -> list[Tensor]:
    """Flip all views; a mirror image shows the right eye what the left one saw."""
    mirror, flip = (uniform(generator, 0, 1) < 0.5 for _ in range(2))
    turned = [FlipRotate(mirror, flip).image(view) for view in views]
    order = (1, 0, 3, 2) if mirror else (0, 1, 2, 3)
    return [turned[number] for number in order if number < len(turned)]


def _downsample(views: Tensor, scale: int) -> Tensor:
    size = [side // scale for side in views.shape[1:]]
    return quantise(F.interpolate(views[None], size, mode="bicubic", antialias=True)[0])
