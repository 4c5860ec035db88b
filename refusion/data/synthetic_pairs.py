"""Synthetic training pairs: clean photos, and the same photos after a random degradation."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from refusion.config.parser import Component, FromTable
from refusion.data.augment import FlipRotate
from refusion.data.exclusions import read_exclusions
from refusion.data.matching import check_sizes
from refusion.data.stream import PhotoStream, photo_at
from refusion.errors import ConfigError, suggest
from refusion.hints import Bound, Count, PatchSide, Pixels, Seed, Share, Whole
from refusion.images.cache import FULL_SIDE, PhotoCache, apply_pillow, list_photos, to_tensor
from refusion.randomness import bernoulli, keyed_generator, uniform
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.degradations.base import degrade, draw_scene
from refusion.synthesis.draws import TableGenerator
from refusion.synthesis.scenes.frame import GRID, PhotoFrame
from refusion.synthesis.scenes.surfaces import draw_surface
from refusion.synthesis.tone import Tone, Tones, tones_of

SCENE_SIDE = 2048  # longest side of cached photos in pixels, if patches span a part of the scene
LEVEL_SIDES = (512, 1024)  # longest sides of smaller copies, from which large parts are resized
# Side of a part over the side of its patch, at least. The PSNR of 450 patches of 64 to 256 px to
# those of the full photo is then 46 dB or more, and 54 dB in the median.
LEVEL_MARGIN = 1.5
SPLITS = ("all", "train", "held_out")
SURFACE_KEY = 0x5F  # key of the generator for procedural surfaces, different from that of crops
SCENE_KEY = 0x5C  # key of the generator for the scenes that several crops share


@dataclass(frozen=True)
class _Scene:
    """What the crops of one photo share.

    Attributes:
        number: number of the scene in the stream.
        pixels: (H, W, 3) the cached photo.
        tone: tone of photo and thumbnail.
        thumbnail: (3, h, w) in [0, 1], with the tone.
        drawn: result of `draw_scene`.
        levels: smaller copies of the photo by their longest side, as far as crops needed them.
    """

    number: int
    pixels: np.ndarray
    tone: Tone
    thumbnail: Tensor
    drawn: tuple[Any] | None
    levels: dict[int, np.ndarray] = field(default_factory=dict)


class SyntheticPairs(PhotoStream):
    """Clean photos and degraded copies, for example with haze, shadow, blur or noise.

    The dataset is an endless stream of patches; `dataset[index]` is a function of (settings, seed,
    index), index >= 0. Each epoch uses every photo once, in a new random order. With `whole=True`,
    the dataset is a finite set of whole photos; the degradation of a photo depends on the seed and
    the file name, so it does not change when photos are added.

    Args:
        folders: folders of clean photos, searched recursively.
        degradation: type of the degradation (a key of `DEGRADATIONS`) and its settings.
        patch: side of the square clean patch in pixels, at least 16; for downsampling, a multiple
            of its factor.
        seed: seed of order, crops and degradation, >= 0.
        split: "all", or "train" / "held_out", selected by the SHA-1 of the file name.
        held_out: one of this number of photos is held out, at least 2.
        length: number of patches, or of whole photos (the first ones); None for all.
        scale_range: (low, high) in (0, 1], part of the short side of the photo that a patch spans;
            large parts are more frequent. Only photos smaller than the patch are enlarged. None
            cuts patches from the photo without resizing, for degradations at the scale of pixels:
            noise, blur and super-resolution.
        flip: mirror left and right at random.
        rotate: rotate by multiples of 90 degrees at random; not for scenes that must be upright.
        tone: strength of random changes of exposure, contrast and colour of the clean patches, 0
            (none) to 1, or their ranges.
        cache: folder of decoded photos; None for the user's cache folder.
        whole: whole photos for validation instead of patches; for downsampling they are cropped to
            multiples of its factor.
        max_side: longest side of whole photos in pixels; larger photos are shrunk.
        surface_share: share of the patches whose clean image is a procedural surface
            (`draw_surface`) instead of a crop of a photo; it does not change the other patches.
        crops_per_photo: number of consecutive patches that are crops of one photo with one tone and
            one scene of the degradation: haze, shadow, lenses, streaks of rain, kernel of a blur,
            mask. Crop, flip, noise and JPEG differ; the noise is that of `TableGenerator`. A batch
            of B patches then shows about B / crops_per_photo scenes; use it if the processors do
            not make enough samples, and at most a quarter of the batch size.
        exclude: text file with the file names of photos that are not used, one per line, such as
            the list of `python -m benchmarks.misty`; see `read_exclusions`. None for no list.

    Raises:
        ConfigError: a folder is missing or empty, all photos are excluded, a split is empty, a
            photo is smaller than the patch (if `scale_range` is None), or an option is out of
            range.
        ImageError: a photo cannot be read.
    """

    def __init__(
        self,
        *,
        folders: Sequence[str | Path],
        degradation: Annotated[Component, FromTable("degradations")],
        patch: PatchSide = 256,
        seed: Seed = 0,
        split: str = "all",
        held_out: Whole = 16,
        length: Count | None = None,
        scale_range: Annotated[tuple[float, float], Bound(0, 1)] | None = (0.25, 1.0),
        flip: bool = True,
        rotate: bool = False,
        tone: Share | Tones = 0.0,
        cache: str | Path | None = None,
        whole: bool = False,
        max_side: Pixels = 1024,
        surface_share: Share = 0.0,
        crops_per_photo: Count = 1,
        exclude: str | Path | None = None,
    ) -> None:
        self.degradation = build_degradation(degradation)
        self.multiple = getattr(self.degradation, "multiple", 1)
        _check_patch(patch, scale_range, self.multiple)
        self.photos = _split(_listed(folders, exclude), split, held_out)
        if scale_range is None and not whole:
            check_sizes([[path] for path in self.photos], (1,), patch, FULL_SIDE)
        super().__init__(seed, length, len(self.photos) if whole else None)
        self.patch = patch
        self.scale_range = scale_range
        self.flip = flip
        self.rotate = rotate
        self.tones = tones_of(tone)
        self.cache = PhotoCache(cache)
        self.whole = whole
        self.max_side = max_side
        if not 0 <= surface_share <= 1:
            raise ConfigError(f"surface_share: expected a share from 0 to 1, got {surface_share}")
        self.surface_share = surface_share
        if crops_per_photo < 1:
            raise ConfigError(f"crops_per_photo: expected at least 1, got {crops_per_photo}")
        self.crops_per_photo = crops_per_photo
        self._kept: _Scene | None = None  # the scene of the last patch

    def __getstate__(self) -> dict[str, Any]:
        """State for a loader process, which starts without a scene."""
        return {**self.__dict__, "_kept": None}

    def photos_of(self, index: int) -> tuple[Path, ...]:
        """Return the clean photo of a sample; a procedural surface has none."""
        if self.whole:
            return (self.photos[index],)
        if self._surface_generator(index) is not None:
            return ()
        return (self._photo(index),)

    def sample(self, index: int) -> dict[str, Any]:
        """Return one patch of the stream, or one whole photo with its name."""
        if self.whole:
            return self._whole_photo(self.photos[index])
        generator = self._surface_generator(index)
        return self._patch(index) if generator is None else self._surface(generator)

    def _photo(self, index: int) -> Path:
        return self.photos[photo_at(self.seed, index // self.crops_per_photo, len(self.photos))]

    def _surface_generator(self, index: int) -> Generator | None:
        """Generator of the surface of a patch; None if a photo is used."""
        if self.surface_share == 0:
            return None
        generator = keyed_generator(self.seed, index, SURFACE_KEY)
        return generator if bernoulli(generator, self.surface_share) else None

    def _surface(self, generator: Generator) -> dict[str, Any]:
        gt = draw_surface(generator, (self.patch, self.patch))
        return self._checked(gt, self.degradation(gt, generator, PhotoFrame.whole(gt)))

    def _checked(self, gt: Tensor, made: Any) -> dict[str, Any]:
        """The item of a clean image and what the degradation returned."""
        if not isinstance(made, Mapping) or "lq" not in made:
            name, kind = type(self.degradation).__name__, type(made).__name__
            got = f"keys {list(made)}" if isinstance(made, Mapping) else kind
            raise ConfigError(f"degradation {name}: expected a dict with the key 'lq', got {got}")
        return {"gt": gt, **made}

    def _patch(self, index: int) -> dict[str, Any]:
        generator = keyed_generator(self.seed, index)
        scene = None if self.crops_per_photo == 1 else self._shared_scene(index)
        generator = generator if scene is None else TableGenerator.of(generator)
        pixels = self._pixels(index) if scene is None else scene.pixels
        left, top, side = _place_patch(pixels.shape, self.patch, self.scale_range, generator)
        symmetry = FlipRotate.draw(generator, flip=self.flip, rotate=self.rotate)
        tone, thumbnail = (
            self._toned_thumbnail(index, generator)
            if scene is None
            else (scene.tone, scene.thumbnail)
        )
        levels = {} if scene is None else scene.levels
        pixels, left, top, side = self._on_level(index, pixels, (left, top, side), levels)
        gt = _patch_of(pixels[top : top + side, left : left + side], self.patch, tone)
        height, width, _ = pixels.shape
        box = (left / width, top / height, (left + side) / width, (top + side) / height)
        gt, frame = symmetry.image(gt), symmetry.frame(PhotoFrame(thumbnail, box))
        drawn = None if scene is None else scene.drawn
        return self._checked(gt, degrade(self.degradation, gt, drawn, generator, frame))

    def _pixels(self, index: int) -> np.ndarray:
        return self.cache.load(self._photo(index), SCENE_SIDE if self.scale_range else FULL_SIDE)

    def _on_level(
        self,
        index: int,
        pixels: np.ndarray,
        place: tuple[int, int, int],
        levels: dict[int, np.ndarray],
    ) -> tuple[np.ndarray, int, int, int]:
        """The smallest copy of the photo that is large enough for a patch, and its place there."""
        (height, width, _), (left, top, side) = pixels.shape, place
        for level in LEVEL_SIDES if self.scale_range else ():
            scale = level / max(height, width)
            part = round(side * scale)
            if scale < 1 and part >= LEVEL_MARGIN * self.patch:
                if level not in levels:
                    levels[level] = self.cache.load_level(self._photo(index), level, SCENE_SIDE)
                small = levels[level]
                ends = small.shape[1] - part, small.shape[0] - part
                starts = (round(at * scale) for at in (left, top))
                left, top = (max(0, min(*pair)) for pair in zip(starts, ends, strict=True))
                return small, left, top, min(part, *small.shape[:2])
        return pixels, *place

    def _toned_thumbnail(self, index: int, generator: Generator) -> tuple[Tone, Tensor]:
        thumbnail = to_tensor(self.cache.load(self._photo(index), GRID))
        tone = self.tones.draw(generator) if self.tones.has_effect else Tone()
        return tone, tone(thumbnail)

    def _shared_scene(self, index: int) -> _Scene:
        """The scene of a patch; the last one is kept, as neighbours in the stream share it."""
        number, kept = index // self.crops_per_photo, self._kept
        if kept is not None and kept.number == number:
            return kept
        generator = keyed_generator(self.seed, number, SCENE_KEY)
        tone, thumbnail = self._toned_thumbnail(index, generator)
        drawn = draw_scene(self.degradation, thumbnail, generator)
        self._kept = _Scene(number, self._pixels(index), tone, thumbnail, drawn)
        return self._kept

    def _whole_photo(self, path: Path) -> dict[str, Any]:
        gt = to_tensor(self.cache.load(path, self.max_side))
        height, width = (side - side % self.multiple for side in gt.shape[1:])
        gt = gt[:, :height, :width].contiguous()
        generator = keyed_generator(self.seed, _name_hash(path))
        degraded = self.degradation(gt, generator, PhotoFrame.whole(gt))
        return self._checked(gt, degraded) | {"name": path.stem}


def _check_patch(patch: int, scale_range: tuple[float, float] | None, multiple: int) -> None:
    low, high = scale_range or (1.0, 1.0)
    if not 0 < low <= high <= 1:
        raise ConfigError(f"scale_range: expected 0 < low <= high <= 1, got {scale_range}")
    if patch < 16:
        raise ConfigError(f"patch: expected at least 16 pixels, got {patch}")
    if patch % multiple:
        raise ConfigError(f"patch: the degradation needs a multiple of {multiple}, got {patch}")


def _name_hash(path: Path) -> int:
    return int.from_bytes(hashlib.sha1(os.fsencode(path.name)).digest()[:4], "big")


def _listed(folders: Sequence[str | Path], exclude: str | Path | None) -> list[Path]:
    photos = list_photos(folders)
    if exclude is None:
        return photos
    names = read_exclusions(exclude)
    kept = [path for path in photos if path.name not in names]
    if not kept:
        raise ConfigError(f"exclude: {exclude} lists all {len(photos)} photos of the folders")
    if names and len(kept) == len(photos):
        logging.getLogger(__name__).warning(
            "exclude: %s lists none of the %d photos of the folders", exclude, len(photos)
        )
    return kept


def _split(photos: list[Path], split: str, held_out: int) -> list[Path]:
    if split not in SPLITS:
        raise ConfigError(f"split: unknown split '{split}'{suggest(split, SPLITS)}")
    if held_out < 2:
        raise ConfigError(
            f"held_out: expected at least 2 (one of so many photos is held out), got {held_out}"
        )
    if split == "all":
        return photos
    kept = [p for p in photos if (_name_hash(p) % held_out == 0) == (split == "held_out")]
    if not kept:
        raise ConfigError(
            f"split '{split}' of {len(photos)} photos with held_out={held_out} is empty; "
            "add photos or change held_out"
        )
    return kept


def _place_patch(
    shape: tuple[int, ...],
    patch: int,
    scale_range: tuple[float, float] | None,
    generator: Generator,
) -> tuple[int, int, int]:
    """Draw the square (left, top, side) of the photo for a patch; large sides are favoured."""
    height, width = shape[:2]
    side = patch
    if scale_range is not None:
        short = min(height, width)
        low, high = (min(1.0, max(part, patch / short)) for part in scale_range)
        side = round(short * (low + (high - low) * uniform(generator, 0, 1) ** 0.6))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    top = int(torch.randint(height - side + 1, (), generator=generator))
    return left, top, side


def _patch_of(pixels: np.ndarray, side: int, tone: Tone) -> Tensor:
    """Resize square pixels (n, n, 3), antialiased bicubic, and apply a tone; (3, side, side)."""
    if pixels.dtype != np.uint8:
        if len(pixels) != side:
            pixels = apply_pillow(pixels, functools.partial(_resized, side=side))
        return tone(to_tensor(pixels))
    if len(pixels) == side and tone == Tone():
        return to_tensor(pixels)
    levels = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    if len(pixels) != side:  # Pillow's filter in integers, within one level, 3 to 5 times as fast
        levels = F.interpolate(levels[None], (side, side), mode="bicubic", antialias=True)[0]
    return tone.of_levels(levels.contiguous())


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BICUBIC)
