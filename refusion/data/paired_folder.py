"""Pairs of degraded and clean photos from two folders, matched by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusion.data.photo_cache import PhotoCache, list_photos, to_tensor, upright_size
from refusion.data.stream import PhotoStream, keyed_generator, photo_at, uniform
from refusion.errors import ConfigError

FULL_SIDE = 1 << 16  # larger than any photo: keeps pairs in the cache at their own size


class PairedFolder(PhotoStream):
    """Degraded photos and their ground truth, matched by file name.

    A pair has the same name but for the ending and the suffixes: with `lq_suffix="_hazy"` and
    `gt_suffix="_GT"`, `01_hazy.png` goes with `01_GT.jpg`. Without `patch` a finite set of
    whole pairs for validation; with it an endless stream of aligned crops, each a function of
    (seed, index).

    Args:
        lq: folder of degraded photos.
        gt: folder of clean photos.
        patch: side of the crop in pixels; None for whole pairs.
        lq_suffix: end of the degraded names, before the file ending.
        gt_suffix: end of the clean names.
        max_side: whole pairs, and photos before cropping, are shrunk to this longest side.
        flip: mirror left and right at random (crops only).
        seed: seed of order and crops.
        length: number of crops; None for an endless stream.
        cache: folder of decoded photos; None for the user's cache folder.

    Raises:
        ConfigError: a folder is missing or empty, a photo has no partner, the sizes of a pair
            differ, or a photo is smaller than the patch.
    """

    def __init__(
        self,
        *,
        lq: str | Path,
        gt: str | Path,
        patch: int | None = None,
        lq_suffix: str = "",
        gt_suffix: str = "",
        max_side: int | None = None,
        flip: bool = True,
        seed: int = 0,
        length: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.pairs = _match(_by_key(lq, lq_suffix, "lq"), _by_key(gt, gt_suffix, "gt"), lq, gt)
        super().__init__(seed, len(self.pairs) if patch is None else length)
        self.patch = patch
        self.max_side = max_side or FULL_SIDE
        self.flip = flip
        self.cache = PhotoCache(cache)
        _check_sizes(self.pairs, patch, self.max_side)

    def sample(self, index: int) -> dict[str, Any]:
        """One patch of the stream, or one whole photo with its name."""
        if self.patch is not None:
            return self._crop(index, self.patch)
        name, lq, gt = self.pairs[index]
        return {"lq": self._image(lq), "gt": self._image(gt), "name": name}

    def _crop(self, index: int, patch: int) -> dict[str, Any]:
        _, *paths = self.pairs[photo_at(self.seed, index, len(self.pairs))]
        generator = keyed_generator(self.seed, index)
        lq, gt = (self.cache.load(path, self.max_side) for path in paths)
        top = int(torch.randint(lq.shape[0] - patch + 1, (), generator=generator))
        left = int(torch.randint(lq.shape[1] - patch + 1, (), generator=generator))
        step = -1 if self.flip and uniform(generator, 0, 1) < 0.5 else 1
        window = (slice(top, top + patch), slice(left, left + patch))
        return {"lq": to_tensor(lq[window][:, ::step]), "gt": to_tensor(gt[window][:, ::step])}

    def _image(self, path: Path) -> Tensor:
        return to_tensor(self.cache.load(path, self.max_side))


def _by_key(folder: str | Path, suffix: str, role: str) -> dict[str, Path]:
    """Photos of a folder by the name they share with their partner."""
    found: dict[str, Path] = {}
    for path in list_photos([folder], role):
        if not path.stem.endswith(suffix):
            raise ConfigError(f"{role}: '{path}' does not end in {role}_suffix '{suffix}'")
        key = path.relative_to(folder).with_name(path.stem.removesuffix(suffix)).as_posix()
        if key in found:
            raise ConfigError(f"{role}: '{path}' and '{found[key]}' have the same name '{key}'")
        found[key] = path
    return found


def _match(
    lq: dict[str, Path], gt: dict[str, Path], lq_folder: str | Path, gt_folder: str | Path
) -> list[tuple[str, Path, Path]]:
    alone = [f"'{lq[key]}' (none in {gt_folder})" for key in sorted(lq.keys() - gt.keys())]
    alone += [f"'{gt[key]}' (none in {lq_folder})" for key in sorted(gt.keys() - lq.keys())]
    if alone:
        raise ConfigError(
            f"{len(alone)} photos have no partner of the same name: {_shorten(alone)}; "
            "set lq_suffix and gt_suffix, or remove them"
        )
    return [(key, lq[key], gt[key]) for key in sorted(lq)]


def _check_sizes(pairs: list[tuple[str, Path, Path]], patch: int | None, max_side: int) -> None:
    faults = []
    for _, lq, gt in pairs:
        lq_size, gt_size = upright_size(lq), upright_size(gt)
        if lq_size != gt_size:
            faults.append(f"'{lq}' is {_times(lq_size)} but '{gt}' {_times(gt_size)}")
        elif patch and int(min(lq_size) * min(1.0, max_side / max(lq_size))) < patch:
            faults.append(f"'{lq}' ({_times(lq_size)}) is smaller than the patch of {patch}")
    if faults:
        raise ConfigError(f"{len(faults)} pairs cannot be used: {_shorten(faults)}")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _shorten(lines: list[str], limit: int = 10) -> str:
    more = f" and {len(lines) - limit} more" if len(lines) > limit else ""
    return "; ".join(lines[:limit]) + more
