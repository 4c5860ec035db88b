"""Pairs of degraded and clean photos from two folders, matched by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from refusion.data.augment import FlipRotate, aligned_crops
from refusion.data.matching import check_ground_truth, check_sizes, match, photos_by_name
from refusion.data.stream import PhotoStream, check_crop, photo_at
from refusion.errors import ConfigError
from refusion.hints import Count, PatchSide, Pixels, Scale, Seed, Share
from refusion.images.cache import FULL_SIDE, PhotoCache, to_tensor
from refusion.randomness import keyed_generator, uniform

_ADVICE = "set lq_suffix and gt_suffix, or remove them"


class PairedFolder(PhotoStream):
    """Degraded photos and their ground truth, matched by file name.

    The names of a pair differ only in the extension and the suffixes: with `lq_suffix="_hazy"` and
    `gt_suffix="_GT"`, `01_hazy.png` and `01_GT.jpg` are a pair. Without `patch`, the dataset is a
    finite set of whole pairs for validation; with `patch`, it is an endless stream of aligned
    crops, each a function of (seed, index).

    Args:
        lq: folder of degraded photos.
        gt: folder of clean photos; None (whole photos only) gives items without "gt".
        patch: side of the clean crop in pixels, a multiple of `scale`; None for whole pairs.
        scale: ratio of the sides of the clean and the degraded photo (super-resolution).
        lq_suffix: end of the degraded file names, before the extension.
        gt_suffix: end of the clean file names, before the extension.
        max_side: longest side in pixels; larger photos are shrunk, before cropping. None keeps the
            size.
        flip: mirror left and right at random (crops only).
        rotate: rotate by multiples of 90 degrees at random (crops only).
        swap: share of the crops with exchanged degraded and clean image. The published training of
            the latent U-Nets uses 0.5 (`use_swap`), so that they learn to encode both.
        seed: seed of order and crops, >= 0.
        length: number of crops, or of whole pairs (the first ones); None for all.
        cache: folder of decoded photos; None for the user's cache folder.

    Raises:
        ConfigError: a folder is missing or empty, a photo has no partner, the sizes of a pair do
            not have the ratio `scale`, a photo is smaller than the patch, crops have no ground
            truth, or an option is out of range.
        ImageError: a photo cannot be read.
    """

    def __init__(
        self,
        *,
        lq: str | Path,
        gt: str | Path | None,
        patch: PatchSide | None = None,
        scale: Scale = 1,
        lq_suffix: str = "",
        gt_suffix: str = "",
        max_side: Pixels | None = None,
        flip: bool = True,
        rotate: bool = False,
        swap: Share = 0.0,
        seed: Seed = 0,
        length: Count | None = None,
        cache: str | Path | None = None,
    ) -> None:
        check_crop(patch, scale, swap)
        check_ground_truth("gt", patch, is_there=gt is not None)
        is_same = gt is not None and os.path.realpath(lq) == os.path.realpath(gt)
        if is_same and lq_suffix == gt_suffix:
            raise ConfigError(
                f"gt: '{gt}' is the folder lq; choose another folder, or different suffixes"
            )
        if gt is not None and scale > 1 and (swap or max_side):
            raise ConfigError(f"scale: {scale} cannot be used with swap or max_side; remove them")
        photos = photos_by_name(lq, [lq_suffix], "lq", "lq_suffix")
        if gt is not None:
            photos += photos_by_name(gt, [gt_suffix], "gt", "gt_suffix")
        names = match(dict(zip((str(lq), str(gt)), photos, strict=False)), _ADVICE)
        self.pairs = [(name, *(group[name] for group in photos)) for name in names]
        super().__init__(seed, length, len(self.pairs) if patch is None else None)
        self.patch = patch
        self.scale = scale
        self.max_side = max_side or FULL_SIDE
        self.flip = flip
        self.rotate = rotate
        self.swap = swap
        self.cache = PhotoCache(cache)
        side = patch and patch // scale
        check_sizes([paths for _, *paths in self.pairs], (1, scale), side, self.max_side)

    def photos_of(self, index: int) -> tuple[Path, ...]:
        """Return the degraded and the clean photo of a sample."""
        number = index if self.patch is None else photo_at(self.seed, index, len(self.pairs))
        _, *paths = self.pairs[number]
        return tuple(paths)

    def sample(self, index: int) -> dict[str, Any]:
        """Return one crop of the stream, or one whole pair with its name."""
        if self.patch is not None:
            return self._crop(index, self.patch)
        name, *paths = self.pairs[index]
        photos = (to_tensor(self.cache.load(path, self.max_side)) for path in paths)
        return dict(zip(("lq", "gt"), photos, strict=False)) | {"name": name}

    def _crop(self, index: int, patch: int) -> dict[str, Any]:
        generator = keyed_generator(self.seed, index)
        photos = [self.cache.load(path, self.max_side) for path in self.photos_of(index)]
        crops = aligned_crops(photos, (patch // self.scale, patch), generator)
        symmetry = FlipRotate.draw(generator, flip=self.flip, rotate=self.rotate)
        lq, gt = (symmetry.image(crop) for crop in crops)
        is_swapped = uniform(generator, 0, 1) < self.swap
        return {"lq": gt, "gt": lq} if is_swapped else {"lq": lq, "gt": gt}
