"""The disc that images a point out of focus, as a kernel and as a filter of planes."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.synthesis.cat_eye import Filter, OpticalAxis, varying_filter
from refusion.synthesis.fourier import plane_filter

SHARP = 0.5  # blur radius in pixels up to which a disc is one pixel
_VISIBLE = 0.01  # width in pixels of a cut that is rendered


@dataclass(frozen=True)
class LensShape:
    """Shape of the disc that images a point out of focus.

    Attributes:
        blades: number of corners of the aperture, on the circle of the blur radius; 0 for a circle.
        rim: relative increase of brightness from the centre of the disc to its rim, >= 0.
        cat_eye: shift of the front rim of the lens against the open aperture for a corner of the
            photo, relative to their radius, 0..1; 0 for discs that are not cut, see `cat_eye`.
        stop: f-number relative to that of the open aperture, >= 1. A smaller aperture is cut less.

    Raises:
        ConfigError: `blades` is 1 or 2 or negative, `rim` is negative, `cat_eye` is not in 0..1, or
            `stop` is below 1.
    """

    blades: int = 0
    rim: float = 0.0
    cat_eye: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.blades < 0 or self.blades in (1, 2):
            raise ConfigError(f"blades: expected 0 (a circle) or at least 3, got {self.blades}")
        if self.rim < 0:
            raise ConfigError(f"rim: expected a number >= 0, got {self.rim}")
        if not 0 <= self.cat_eye <= 1:
            raise ConfigError(f"cat_eye: expected a number from 0 to 1, got {self.cat_eye}")
        if self.stop < 1:
            raise ConfigError(f"stop: expected a number >= 1, got {self.stop}")


@functools.lru_cache(maxsize=64)
def disc_kernel(radius: float, shape: LensShape | None = None) -> Tensor:
    """Compute the blur kernel of a point: a disc with an anti-aliased rim.

    Args:
        radius: radius of the disc in pixels, >= 0; up to 0.5 the kernel is one pixel.
        shape: shape of the aperture; None for a uniform circle.

    Returns:
        (2 n + 1, 2 n + 1) float32 with sum 1, n = ceil(radius). Cached and shared: do not modify.
    """
    return _disc_kernel(radius, shape or LensShape())


def cut_disc_kernel(down: float, right: float, radius: float, shape: LensShape) -> Tensor:
    """Compute the kernel of a disc that is cut by the rim of the lens, see `cat_eye`.

    Args:
        down: shift of the rim's circle in pixels.
        right: shift of the rim's circle in pixels; both together are at most its radius.
        radius: as in `disc_kernel`; the rim's circle has `radius * shape.stop`.
        shape: as in `disc_kernel`.

    Returns:
        As `disc_kernel`.
    """
    reach = math.ceil(radius) if radius > SHARP else 0
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = torch.hypot((place - down)[:, None], (place - right)[None])
    return _disc_kernel(radius, shape, (radius * shape.stop - distance).add_(0.5))


def _disc_kernel(radius: float, shape: LensShape, cover: Tensor | None = None) -> Tensor:
    """The kernel of a disc; `cover` limits the share of each pixel that is inside."""
    reach = math.ceil(radius) if radius > SHARP else 0
    if not reach:
        return torch.ones(1, 1)
    distance, outline = _polar_grid(reach, shape.blades)
    border = radius * outline
    kernel = (border - distance).add_(0.5)
    if cover is not None:
        kernel = torch.minimum(kernel, cover)
    kernel.clamp_(0, 1)
    if shape.rim:
        part = (distance / border.clamp_min(SHARP)).clamp_(max=1)
        kernel.mul_(part.square_().square_().mul_(shape.rim).add_(1))
    return kernel.div_(kernel.sum())


@functools.lru_cache(maxsize=256)
def _polar_grid(reach: int, blades: int) -> tuple[Tensor, Tensor]:
    """Distance of each pixel of a kernel from its centre, and radius of the aperture there.

    The aperture has a radius of 1 at its corners.
    """
    offset = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = torch.sqrt(offset[:, None] ** 2 + offset[None, :] ** 2)
    if not blades:
        return distance, torch.ones(())
    sector = 2 * math.pi / blades
    angle = torch.atan2(offset[:, None], offset[None, :]) % sector - sector / 2
    return distance, math.cos(sector / 2) / torch.cos(angle)


@dataclass(frozen=True)
class Disc:
    """The disc of one layer.

    Attributes:
        radius: in pixels.
        shape: shape of the aperture.
        axis: the optical axis in the picture.
        side: 1 behind the plane of focus, -1 in front of it.
    """

    radius: float
    shape: LensShape
    axis: OpticalAxis
    side: int

    @property
    def reach(self) -> int:
        """Number of pixels from the centre of the kernel to its border."""
        return len(disc_kernel(self.radius, self.shape)) // 2

    def filter(self, rows: slice, columns: slice) -> Filter:
        """A function that blurs planes, which are these rows and columns of the picture."""
        kernel, shape = disc_kernel(self.radius, self.shape), self.shape
        size = rows.stop - rows.start, columns.stop - columns.start
        rim = self.radius * shape.stop
        if shape.cat_eye * rim - (rim - self.radius) < _VISIBLE or len(kernel) == 1:  # not cut
            return plane_filter(kernel, *size)
        cut = functools.partial(cut_disc_kernel, radius=self.radius, shape=shape)
        axis = self.axis.moved(-rows.start, -columns.start)
        return varying_filter(cut, self.reach, -self.side * shape.cat_eye * rim, axis, size)
