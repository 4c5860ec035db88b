"""Stereo pairs for super-resolution: left and right view, stacked along the channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from refusion.data.augment import FlipRotate, aligned_crops
from refusion.data.matching import check_ground_truth, check_sizes, match, photos_by_name
from refusion.data.stream import PhotoStream, check_crop, photo_at
from refusion.errors import ConfigError
from refusion.hints import Count, PatchSide, Scale, Seed
from refusion.images.cache import FULL_SIDE, PhotoCache, to_tensor
from refusion.images.resize import antialiased
from refusion.randomness import keyed_generator, uniform
from refusion.synthesis.camera import quantise


class StereoFolder(PhotoStream):
    """Stereo pairs and their low-resolution copies, with file names as in Flickr1024.

    `0001_L.png` and `0001_R.png` are one pair. Without `patch`, the dataset is a finite set of
    whole pairs; with `patch`, it is an endless stream of crops at the same position of both views,
    each a function of (seed, index).

    Rotations by 90 degrees and transpositions are not used: they would make the disparity vertical,
    and the views of a rectified pair differ along rows only. When a pair is mirrored, `flip` also
    exchanges the views, so that the result is a valid stereo pair.

    Args:
        gt: folder of full-resolution pairs; None (whole pairs only) gives items without "gt".
        lq: folder of low-resolution pairs with the same names; None computes them from `gt` by
            bicubic downsampling with antialiasing, rounded to 8 bits.
        scale: ratio of the sides of `gt` and `lq`.
        patch: side of the full-resolution crop in pixels, a multiple of `scale`; None for whole
            pairs, which without `lq` are cropped to multiples of `scale`.
        left_suffix: end of the file names of left views, before the extension.
        right_suffix: end of the file names of right views, before the extension.
        flip: mirror with exchange of views, and flip vertically, at random (crops only).
        seed: seed of order and crops, >= 0.
        length: number of crops, or of whole pairs (the first ones); None for all.
        cache: folder of decoded photos; None for the user's cache folder.

    Raises:
        ConfigError: a folder is missing or empty, a view has no partner, sizes do not match, crops
            have no ground truth, or an option is out of range.
        ImageError: a photo cannot be read.
    """

    def __init__(
        self,
        *,
        gt: str | Path | None,
        lq: str | Path | None = None,
        scale: Scale = 4,
        patch: PatchSide | None = None,
        left_suffix: str = "_L",
        right_suffix: str = "_R",
        flip: bool = True,
        seed: Seed = 0,
        length: Count | None = None,
        cache: str | Path | None = None,
    ) -> None:
        check_crop(patch, scale)
        if left_suffix == right_suffix:
            raise ConfigError(
                f"right_suffix: '{right_suffix}' is also the left_suffix; choose different suffixes"
            )
        check_ground_truth("gt", patch, is_there=gt is not None)
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

    def photos_of(self, index: int) -> tuple[Path, ...]:
        """Return the views of a sample."""
        number = index if self.patch is None else photo_at(self.seed, index, len(self.pairs))
        _, *paths = self.pairs[number]
        return tuple(paths)

    def sample(self, index: int) -> dict[str, Any]:
        """Return one crop of the stream, or one whole pair with its name."""
        if self.patch is not None:
            return self._crop(index, self.patch)
        name, *paths = self.pairs[index]
        views = [to_tensor(self.cache.load(path, FULL_SIDE)) for path in paths]
        return {**self._make_item(views), "name": name}

    def _crop(self, index: int, patch: int) -> dict[str, Any]:
        generator = keyed_generator(self.seed, index)
        photos = [self.cache.load(path, FULL_SIDE) for path in self.photos_of(index)]
        sides = [patch * scale // self.scales[-1] for scale in self.scales]
        views = aligned_crops(photos, sides, generator)
        if self.flip:
            views = _flipped(views, generator)
        return self._make_item(views)

    def _make_item(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Make an item of left and right views in low resolution, full resolution, or both."""
        pairs = [torch.cat(views[first : first + 2]) for first in range(0, len(views), 2)]
        if not self.is_lq_made:
            return dict(zip(("lq", "gt"), pairs, strict=False))
        (gt,) = pairs
        height, width = (side - side % self.scale for side in gt.shape[1:])
        gt = gt[:, :height, :width].contiguous()
        return {"lq": _downsample(gt, self.scale), "gt": gt}


def _find_pairs(folders: dict[str, str | Path], suffixes: tuple[str, str]) -> list[tuple[Any, ...]]:
    """List (name, left, right, ...) of all pairs; the views of the first folder come first."""
    groups, views = {}, []  # equal folders give equal titles, so they form one group
    for role, folder in folders.items():
        found = photos_by_name(folder, suffixes, role, "left_suffix or right_suffix")
        groups |= {f"{folder}, {end}": one for end, one in zip(suffixes, found, strict=True)}
        views += found
    names = match(groups, "a pair needs both views, in each folder; add or remove them")
    return [(name, *(photos[name] for photos in views)) for name in names]


def _flipped(views: list[Tensor], generator: Generator) -> list[Tensor]:
    """Flip all views at random; a horizontal flip also exchanges left and right view."""
    mirror, flip = (uniform(generator, 0, 1) < 0.5 for _ in range(2))
    flipped = [FlipRotate(mirror, flip).image(view) for view in views]
    order = (1, 0, 3, 2) if mirror else (0, 1, 2, 3)
    return [flipped[number] for number in order if number < len(flipped)]


def _downsample(views: Tensor, scale: int) -> Tensor:
    size = [side // scale for side in views.shape[1:]]
    return quantise(antialiased(views[None], size)[0])
