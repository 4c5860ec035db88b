"""Bokeh pairs with their lenses, in the layout of the NTIRE 2023 bokeh transformation data."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from refusion.data.augment import FlipRotate, aligned_crops
from refusion.data.matching import check_ground_truth, check_sizes, match, photos_by_name
from refusion.data.stream import PhotoStream, check_crop, photo_at
from refusion.errors import ConfigError, printable
from refusion.files import open_regular
from refusion.hints import Count, PatchSide, Seed, Share
from refusion.images.cache import FULL_SIDE, PhotoCache, to_tensor
from refusion.optics.lens import lens_number
from refusion.randomness import keyed_generator, uniform

_FORM = "'id, source lens, target lens, disparity'"
_MAX_META = 64 << 20  # bytes of meta.txt, enough for a million pairs
_ENDINGS = (".src", ".tgt", ".alpha")
_SHARP = 100  # photos of lenses with a larger number (narrower than f/10) are nearly sharp


class BokehFolder(PhotoStream):
    """Pairs of photos of the same scene with two lenses, and the lens names.

    The folder contains `{id}.src.jpg`, `{id}.tgt.jpg` and optionally `{id}.alpha.png` (not used),
    in one folder or in sub-folders `src`, `tgt` and `alpha`. It also contains `meta.txt` with one
    line per pair, such as `00000, Sony50mmf1.8BS, Sony50mmf16.0BS, 35`. Without `patch`, the
    dataset is a finite set of whole pairs; with `patch`, it is an endless stream of aligned crops,
    each a function of (seed, index). Whole photos need no ground truth: if there is no `.tgt` file,
    items have no "gt". Each item has "lens", float32 (3,): the numbers of the source and target
    lens (`lens_number`) and the disparity as in the file.

    Args:
        folder: folder of the photos and `meta.txt`.
        patch: side of the crop in pixels; None for whole pairs.
        flip: mirror left and right at random (crops only).
        rotate: rotate by multiples of 90 degrees at random (crops only).
        swap: share of the crops with exchanged source and target, including their lenses. As in
            the published training, this applies only if one of the two photos is nearly sharp
            (narrower than f/10). The disparity is not changed: it measures the depth difference of
            foreground and background, which has no direction and belongs to the scene.
        seed: seed of order and crops, >= 0.
        length: number of crops, or of whole pairs (the first ones); None for all.
        cache: folder of decoded photos; None for the user's cache folder.

    Raises:
        ConfigError: `meta.txt` is missing or malformed (the message names file and line), a lens is
            unknown, a photo or an entry is missing, sizes differ, crops have no ground truth, or an
            option is out of range.
        ImageError: a photo cannot be read.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        patch: PatchSide | None = None,
        flip: bool = True,
        rotate: bool = False,
        swap: Share = 0.0,
        seed: Seed = 0,
        length: Count | None = None,
        cache: str | Path | None = None,
    ) -> None:
        check_crop(patch, swap=swap)
        found = photos_by_name(folder, _ENDINGS, "folder", "one of the endings")
        source, target, _ = map(_by_id, found)
        check_ground_truth("folder", patch, is_there=bool(target))
        meta = Path(folder) / "meta.txt"
        lenses = _read_meta(meta)
        kinds = {".src": source, ".tgt": target} if target else {".src": source}
        groups = {f"{folder}, {ending}": photos for ending, photos in kinds.items()}
        names = match(
            groups | {str(meta): lenses}, f"each id needs {', '.join(kinds)} and a line in meta.txt"
        )
        self.entries = [
            (name, [photos[name] for photos in kinds.values()], lenses[name]) for name in names
        ]
        super().__init__(seed, length, len(self.entries) if patch is None else None)
        self.patch = patch
        self.flip = flip
        self.rotate = rotate
        self.swap = swap
        self.cache = PhotoCache(cache)
        check_sizes([paths for _, paths, _ in self.entries], (1, 1), patch, FULL_SIDE)

    def photos_of(self, index: int) -> tuple[Path, ...]:
        """Return the source and the target photo of a sample."""
        return tuple(self._entry(index)[1])

    def sample(self, index: int) -> dict[str, Any]:
        """Return one crop of the stream, or one whole pair with its name."""
        if self.patch is not None:
            return self._crop(index, self.patch)
        name, paths, lenses = self._entry(index)
        photos = [to_tensor(self.cache.load(path, FULL_SIDE)) for path in paths]
        # Without ground truth, `photos` has one element.
        return dict(zip(("lq", "gt"), photos, strict=False)) | {
            "lens": torch.tensor(lenses),
            "name": name,
        }

    def _entry(self, index: int) -> tuple[str, list[Path], tuple[float, float, float]]:
        """Name, photos and lenses of the entry that a sample is made of."""
        number = index if self.patch is None else photo_at(self.seed, index, len(self.entries))
        return self.entries[number]

    def _crop(self, index: int, patch: int) -> dict[str, Tensor]:
        _, paths, lenses = self._entry(index)
        generator = keyed_generator(self.seed, index)
        photos = [self.cache.load(path, FULL_SIDE) for path in paths]
        crops = aligned_crops(photos, (patch, patch), generator)
        symmetry = FlipRotate.draw(generator, flip=self.flip, rotate=self.rotate)
        lq, gt = (symmetry.image(crop) for crop in crops)
        source, target, disparity = lenses
        is_swapped = uniform(generator, 0, 1) < self.swap
        if is_swapped and max(source, target) > _SHARP:
            lq, gt, source, target = gt, lq, target, source
        return {"lq": lq, "gt": gt, "lens": torch.tensor([source, target, disparity])}


def _by_id(photos: dict[str, Path]) -> dict[str, Path]:
    """Photos by id, without the sub-folder `src`, `tgt` or `alpha` of the published layout."""
    kinds = {ending.removeprefix(".") for ending in _ENDINGS}
    names = {name: PurePosixPath(name) for name in photos}
    return {
        (path.name if str(path.parent) in kinds else name): photos[name]
        for name, path in names.items()
    }


def _read_meta(path: Path) -> dict[str, tuple[float, float, float]]:
    """Read `meta.txt`: id -> (source lens number, target lens number, disparity)."""
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_META + 1)
        if len(text) > _MAX_META:
            raise ConfigError(
                f"folder: '{path}' has more than {_MAX_META >> 20} MB, which is no list of {_FORM}"
            )
        lines = text.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ConfigError(f"folder: cannot read '{path}': {cause}; it lists {_FORM}") from error
    entries: dict[str, tuple[float, float, float]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name, numbers = _parse(line)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        if name in entries:
            raise ConfigError(
                f"{path}, line {number}: id '{name}' is listed twice; remove one line"
            )
        entries[name] = numbers
    return entries


def _parse(line: str) -> tuple[str, tuple[float, float, float]]:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 4 or not parts[0]:
        raise ConfigError(f"expected {_FORM}, got '{printable(line.strip(), 100)}'")
    try:
        disparity = float(parts[3])
    except ValueError:
        disparity = math.nan
    if not math.isfinite(disparity):
        raise ConfigError(f"disparity: expected a number, got '{printable(parts[3], 100)}'")
    return parts[0], (lens_number(parts[1]), lens_number(parts[2]), disparity)
