"""Conditions for bokeh from disparity maps: how far each lens blurs each pixel of a photo.

If the blur discs are larger than those of the training, the model works on a reduced copy of the
photo; a renderer does so for much larger discs only. Regions with large blur lose no visible detail
by that. In sharp regions, the detail of the photo that is finer than the pixels of the copy is
added to the result (a Laplacian pyramid of two levels, Burt and Adelson 1983).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import ImageError
from refusion.images.listing import list_images
from refusion.images.resize import antialiased, shrink
from refusion.images.samples import store, to_float
from refusion.optics.defocus import LARGEST, blur_radius, defocus_guide, encode_defocus
from refusion.optics.disparity import defocus_of, read_disparity, read_own_disparity
from refusion.optics.lens import lens_between
from refusion.restorers.base import Conditions
from refusion.restorers.bokeh_renderer import MAX_RADIUS
from refusion.tiling.guided import guided_upsample_bands

BLUR = 0.012
"""Default radius of the largest blur discs at f/1.8, as a fraction of the photo's long side."""

_FIT = 1024  # long side in pixels of the copy on which a map is fitted to the edges of the photo
_ROWS = 64
_SHAPE = 0.02  # tolerance of the logarithm of the aspect ratio between map and photo
_VISIBLE = 0.5  # largest radius of blur in pixels that does not lose detail

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConditionedPhoto:
    """Input of the model for one photo, and the data to get a result of the photo's size.

    Attributes:
        lq: the photo or a reduced copy of it, (1, 3, h, w).
        conditions: conditions of the model for `lq`.
        photo: the photo, (3, H, W).
        kept: fraction of the photo's fine detail that is kept in the result, uint8 (1, H, W) where
            255 is 1; None if `lq` is the photo.
        strength: strength of the restoration, 0..1; with 0 all detail is kept.
    """

    lq: Tensor
    conditions: Conditions
    photo: Tensor
    kept: Tensor | None = None
    strength: float = 1.0

    def at_full_size(self, restored: Tensor) -> Tensor:
        """Enlarge the model's result to the size of the photo and add the kept detail.

        Args:
            restored: result of the model for `lq`, (3, h, w).

        Returns:
            (3, H, W), with the dtype of `photo`.
        """
        if self.kept is None:
            return restored
        out = torch.empty(self.photo.shape, dtype=self.photo.dtype, device=restored.device)
        small = torch.stack([restored, self.lq[0].to(restored.device)])
        for rows, (after, before) in _enlarged_bands(small, out.shape[-2:]):
            band = to_float(self.photo[:, rows].to(after.device))
            lost = 1 - to_float(self.kept[:, rows].to(after.device))
            store(after + (1 - self.strength * lost) * (band - before), out[:, rows])
        return out.clamp_(0, 1) if out.is_floating_point() else out


@dataclass(frozen=True)
class DisparityMaps:
    """Disparity maps for a batch of photos, and the settings of the lenses.

    Attributes:
        place: file of the map, or folder with one map per photo, of the same stem as the photo;
            None for the depth maps of the photos themselves.
        source: number of the lens of the photos, see `refusion.optics.lens`.
        target: number of the lens to imitate.
        blur: radius in pixels of the largest discs at f/1.8; None for `BLUR` times the long side.
        focus: see `defocus_of`.
        zero_is_unknown: see `read_disparity`.
        rendered: whether the conditions are those of `BokehRenderer`, not of a model.
    """

    place: Path | None
    source: float
    target: float
    blur: float | None = None
    focus: tuple[float, float] | None = None
    zero_is_unknown: bool = False
    rendered: bool = False

    def conditioned(self, photo: Tensor, path: Path, strength: float = 1.0) -> ConditionedPhoto:
        """Read the map of a photo and compute the input of the model.

        Logs a warning if the model must work on a reduced copy.

        Args:
            photo: samples (3, H, W), after rotation by the EXIF orientation.
            path: file of the photo; a map in a folder must have the same stem.
            strength: position between the source lens (0) and the target lens (1). For a value in
                between, an intermediate lens is the target. A process that ends early would have
                little effect, because the latent U-Net, which is conditioned on the guide, renders
                most of the blur.

        Raises:
            ImageError: the map does not exist, cannot be read, has another aspect ratio than the
                photo, or is constant, or the discs are far larger than the photo.
        """
        if 0 < strength < 1:
            between = lens_between(self.source, self.target, strength)
            return replace(self, target=between).conditioned(photo, path)
        defocus = defocus_of(self._disparity(path, photo), self.focus)
        long_side = max(photo.shape)
        blur = BLUR * long_side if self.blur is None else self.blur
        largest = max(blur_radius(lens, blur) for lens in (self.source, self.target))
        limit = MAX_RADIUS if self.rendered else LARGEST
        reduction = largest * float(defocus.abs().max()) / limit
        if reduction <= 1:
            conditions = self._conditions(defocus, photo[None], blur)
            return ConditionedPhoto(photo[None], conditions, photo, strength=strength)
        if reduction > long_side:  # the copy would have no pixel
            raise ImageError(
                f"{path}: the blur discs have radii of {largest:.3g} pixels, which is too large "
                f"for a photo with a long side of {long_side}; give a smaller --blur"
            )
        side = math.floor(long_side / reduction)
        logger.warning(
            "%s: the blur discs have radii up to %.0f pixels, and %s %.0f: it works on a copy of "
            "%d pixels; sharp regions keep the detail of the photo",
            *(path, reduction * limit, self._limited, limit, side),
        )
        small = shrink(photo[None], side)
        conditions = self._conditions(defocus, small, blur * side / long_side)
        kept = self._kept(defocus, photo, blur, reduction)
        return ConditionedPhoto(small, conditions, photo, kept, strength)

    @property
    def _limited(self) -> str:
        return "the renderer takes up to" if self.rendered else "the model was trained up to"

    def _disparity(self, path: Path, photo: Tensor) -> Tensor:
        """The map (h, w) of a photo (3, H, W)."""
        if self.place is None:
            disparity = read_own_disparity(path)
            _check_shape(f"{path}: its depth map", disparity, photo)
            return disparity
        file = self._map_of(path)
        disparity = read_disparity(file, zero_is_unknown=self.zero_is_unknown)
        _check_shape(f"{file}:", disparity, photo)
        return disparity

    def _map_of(self, photo: Path) -> Path:
        """File of the map of a photo."""
        if not self.place.is_dir():
            return self.place
        found = [path for path in list_images(self.place) if path.stem == photo.stem]
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ImageError(
                f"{photo}: expected one disparity map '{photo.stem}' of an image type "
                f"in '{self.place}', found {names}"
            )
        return found[0]

    def _conditions(self, defocus: Tensor, lq: Tensor, blur: float) -> Conditions:
        """Lenses and guide for a photo `lq` (1, 3, h, w), whose largest disc has radius `blur`."""
        lens = (self.source, self.target, blur)
        guide = torch.empty((1 if self.rendered else 2, *lq.shape[-2:]), dtype=torch.uint16)
        for rows, band in fitted_bands(defocus, lq):
            encoded = encode_defocus(band)[None] if self.rendered else defocus_guide(band, lens)
            store(encoded, guide[:, rows])
        return Conditions(lens=torch.tensor(lens), guide=guide)

    def _kept(self, defocus: Tensor, photo: Tensor, blur: float, reduction: float) -> Tensor:
        """Fraction of the detail finer than `reduction` pixels that the target lens leaves.

        It is 0 where the additional blur has a radius of `reduction` pixels or more.
        """
        source, target = (blur_radius(lens, blur) for lens in (self.source, self.target))
        added = math.sqrt(max(0.0, target**2 - source**2))  # additional blur from source to target
        kept = torch.empty((1, *photo.shape[-2:]), dtype=torch.uint8)
        for rows, band in fitted_bands(defocus, photo[None]):
            store(1 - (band.abs()[None] * added - _VISIBLE) / reduction, kept[:, rows])
        return kept


def _check_shape(name: str, disparity: Tensor, photo: Tensor) -> None:
    """Check that a map (h, w) has the aspect ratio of the photo (3, H, W).

    `name` is the start of the message: "FILE:", or what the map is.
    """
    (height, width), (rows, columns) = disparity.shape, photo.shape[-2:]
    if abs(math.log(width / height * rows / columns)) > _SHAPE + 1 / min(height, width):
        raise ImageError(
            f"{name} {width}x{height} has another aspect ratio than the photo, {columns}x{rows}; "
            "give the map of this photo, with its orientation and of the whole photo"
        )


def fitted_bands(defocus: Tensor, photo: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Resize a defocus map to the size of a photo, in bands of rows.

    A map smaller than the photo is enlarged by a guided filter, which fits its edges to those of
    the photo.

    Args:
        defocus: (h, w) in [-1, 1].
        photo: (1, 3, H, W), float in [0, 1], or uint8 or uint16 in their full range.

    Yields:
        Rows of the photo, and their defocus (rows, W) in [-1, 1].
    """
    height, width = photo.shape[-2:]
    if min(defocus.shape[0] / height, defocus.shape[1] / width) >= 1:
        resized = F.interpolate(defocus[None, None], (height, width), mode="area")[0, 0]
        for top in range(0, height, _ROWS):
            rows = slice(top, min(top + _ROWS, height))
            yield rows, resized[rows]
        return
    small = shrink(photo, min(_FIT, max(defocus.shape)))
    value = antialiased(defocus[None, None], small.shape[-2:], "bilinear")
    for rows, band in guided_upsample_bands(value, small, photo):
        yield rows, band[0, 0].clamp_(-1, 1)


def _enlarged_bands(maps: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Enlarge maps (B, C, h, w) bilinearly to a size, in bands of rows."""
    columns = (torch.arange(size[1], device=maps.device) * 2 + 1) / size[1] - 1
    for top in range(0, size[0], _ROWS):
        rows = slice(top, min(top + _ROWS, size[0]))
        positions = (torch.arange(rows.start, rows.stop, device=maps.device) * 2 + 1) / size[0] - 1
        grid = torch.stack(torch.meshgrid(positions, columns, indexing="ij")[::-1], dim=-1)
        grid = grid.expand(len(maps), -1, -1, -1)
        yield rows, F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
