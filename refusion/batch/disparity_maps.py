"""Photos for a bokeh model, told by disparity maps where and how far either lens blurs them.

Where discs are larger than the model knows, it works on a smaller copy in which they are not. What
is blurred that much loses nothing by it; of what stays sharp the photo's own detail beyond the
copy's resolution is put back (a Laplacian pyramid of two levels, Burt and Adelson 1983).
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
from refusion.images.io import list_images
from refusion.images.resize import shrink
from refusion.images.samples import store, to_float
from refusion.optics.defocus import LARGEST, blur_radius, defocus_guide
from refusion.optics.disparity import defocus_of, read_disparity
from refusion.optics.lens import lens_between
from refusion.restorers.base import Conditions
from refusion.tiling.guided import guided_upsample_bands

BLUR = 0.012
"""Radius of the largest discs at f/1.8 in parts of the photo's long side, unless told."""

_FIT = 1024  # long side of the copy that a map's edges are fitted to the photo's on
_ROWS = 64
_SHAPE = 0.02  # how much the proportions of a map may differ from the photo's
_VISIBLE = 0.5  # pixels of blur that no detail is lost by

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConditionedPhoto:
    """A photo as the model is given it.

    Attributes:
        lq: the photo, or a smaller copy of it, (1, 3, h, w).
        conditions: what the model is told of it.
        photo: the photo itself, (3, H, W).
        kept: share of the photo's finer detail that stays, uint8 (1, H, W); None where `lq` is the
            photo.
        strength: how far the model is to go; of a strength of 0 all detail stays.
    """

    lq: Tensor
    conditions: Conditions
    photo: Tensor
    kept: Tensor | None = None
    strength: float = 1.0

    def at_full_size(self, restored: Tensor) -> Tensor:
        """The model's result at the size of the photo.

        Args:
            restored: (3, h, w), of `lq`.

        Returns:
            (3, H, W), samples like `photo`.
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
    """Maps for a batch of photos, and how the lenses are set.

    Attributes:
        place: file of the map, or folder with a map of the same stem for each photo.
        source: number of the lens of the photos, `refusion.optics.lens`.
        target: of the lens to imitate.
        blur: radius in pixels of the largest discs at f/1.8; None for `BLUR` of the long side.
        focus: see `defocus_of`.
        zero_is_unknown: see `read_disparity`.
    """

    place: Path
    source: float
    target: float
    blur: float | None = None
    focus: tuple[float, float] | None = None
    zero_is_unknown: bool = False

    def conditioned(self, photo: Tensor, path: Path, strength: float = 1.0) -> ConditionedPhoto:
        """The photo with what the model must know of it.

        Logs a warning where the model must work on a smaller copy.

        Args:
            photo: samples (3, H, W), upright.
            path: its file, whose stem a map in a folder must have.
            strength: share of the way from source to target lens. In between it is a lens between
                them: a latent U-Net that is told of the blur renders most of it, so that a process
                that ends early would hardly show.

        Raises:
            ImageError: there is no such map, it cannot be read, has other proportions or one value.
        """
        if 0 < strength < 1:
            between = lens_between(self.source, self.target, strength)
            return replace(self, target=between).conditioned(photo, path)
        file = self._map_of(path)
        disparity = read_disparity(file, zero_is_unknown=self.zero_is_unknown)
        _check_shape(file, disparity, photo)
        defocus = defocus_of(disparity, self.focus)
        long_side = max(photo.shape)
        blur = BLUR * long_side if self.blur is None else self.blur
        largest = max(blur_radius(lens, blur) for lens in (self.source, self.target))
        reduction = largest * float(defocus.abs().max()) / LARGEST
        if reduction <= 1:
            conditions = self._conditions(defocus, photo[None], blur)
            return ConditionedPhoto(photo[None], conditions, photo, strength=strength)
        side = max(1, math.floor(long_side / reduction))
        logger.warning(
            "%s: discs of up to %.0f pixels, and the model knows %.0f: it works on a copy of %d "
            "pixels, and what stays sharp keeps the detail of the photo",
            *(path, reduction * LARGEST, LARGEST, side),
        )
        small = shrink(photo[None], side)
        conditions = self._conditions(defocus, small, blur * side / long_side)
        kept = self._kept(defocus, photo, blur, reduction)
        return ConditionedPhoto(small, conditions, photo, kept, strength)

    def _map_of(self, photo: Path) -> Path:
        if not self.place.is_dir():
            return self.place
        found = [path for path in list_images(self.place) if path.stem == photo.stem]
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ImageError(
                f"{photo}: expected one disparity map '{photo.stem}' with the ending of an image "
                f"in '{self.place}', found {names}"
            )
        return found[0]

    def _conditions(self, defocus: Tensor, lq: Tensor, blur: float) -> Conditions:
        lens = (self.source, self.target, blur)
        guide = torch.empty((2, *lq.shape[-2:]), dtype=torch.uint16)
        for rows, band in fitted_bands(defocus, lq):
            store(defocus_guide(band, lens), guide[:, rows])
        return Conditions(lens=torch.tensor(lens), guide=guide)

    def _kept(self, defocus: Tensor, photo: Tensor, blur: float, reduction: float) -> Tensor:
        """Detail finer than `reduction` pixels is gone where a lens blurs as much as that more."""
        source, target = (blur_radius(lens, blur) for lens in (self.source, self.target))
        added = math.sqrt(max(0.0, target**2 - source**2))  # radius that has the effect of both
        kept = torch.empty((1, *photo.shape[-2:]), dtype=torch.uint8)
        for rows, band in fitted_bands(defocus, photo[None]):
            store(1 - (band.abs()[None] * added - _VISIBLE) / reduction, kept[:, rows])
        return kept


def _check_shape(file: Path, disparity: Tensor, photo: Tensor) -> None:
    (height, width), (rows, columns) = disparity.shape, photo.shape[-2:]
    if abs(math.log(width / height * rows / columns)) > _SHAPE + 1 / min(height, width):
        raise ImageError(
            f"{file}: {width}x{height} has not the proportions of the photo, {columns}x{rows}; "
            "give the map of this photo, upright and of all of it"
        )


def fitted_bands(defocus: Tensor, photo: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Defocus of a photo's pixels, some rows at a time; a small map gets the edges of the photo.

    Args:
        defocus: (h, w) in [-1, 1].
        photo: (1, 3, H, W), float in [0, 1], or uint8 or uint16 over their full range.

    Yields:
        Rows, and their defocus (rows, W).
    """
    height, width = photo.shape[-2:]
    if min(defocus.shape[0] / height, defocus.shape[1] / width) >= 1:
        resized = F.interpolate(defocus[None, None], (height, width), mode="area")[0, 0]
        for top in range(0, height, _ROWS):
            rows = slice(top, min(top + _ROWS, height))
            yield rows, resized[rows]
        return
    small = shrink(photo, min(_FIT, max(defocus.shape)))
    value = F.interpolate(defocus[None, None], small.shape[-2:], mode="bilinear", antialias=True)
    for rows, band in guided_upsample_bands(value, small, photo):
        yield rows, band[0, 0].clamp_(-1, 1)


def _enlarged_bands(maps: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Maps (B, C, h, w) enlarged to a size, bilinear, some rows at a time."""
    columns = (torch.arange(size[1], device=maps.device) * 2 + 1) / size[1] - 1
    for top in range(0, size[0], _ROWS):
        rows = slice(top, min(top + _ROWS, size[0]))
        places = (torch.arange(rows.start, rows.stop, device=maps.device) * 2 + 1) / size[0] - 1
        grid = torch.stack(torch.meshgrid(places, columns, indexing="ij")[::-1], dim=-1)
        grid = grid.expand(len(maps), -1, -1, -1)
        yield rows, F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
