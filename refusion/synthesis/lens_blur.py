"""Lens blur of a photo from a defocus map: layers are composited from back to front.

Each point of a scene is imaged as a disc with the shape of the lens aperture, and near discs
occlude far discs. The photo is rendered in layers, in linear light with expanded highlights, after
Peng et al., BokehMe (CVPR 2022), section 3.1. Regions that the blurred foreground uncovers are
filled after Kraus and Strengert, Depth-of-field rendering by pyramidal image processing (2007).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import ConfigError, ImageError
from refusion.synthesis.camera import GAMMA, power
from refusion.synthesis.cat_eye import Filter, OpticalAxis, varying_filter
from refusion.synthesis.fourier import plane_filter

SHARP = 0.5  # blur radius in pixels up to which a disc is one pixel
LAYERS = 7  # largest number of layers in front of, and behind, the plane of focus
SHOULDER = 4  # exponent of the highlight expansion; larger values affect only brighter pixels
_VISIBLE = 0.01  # width in pixels of a cut that is rendered
UNSEEN = 1e-4  # weight of the unblurred photo, visible where all layers are transparent


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
class _Disc:
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


def render_bokeh(
    image: Tensor,
    defocus: Tensor,
    shape: LensShape | None = None,
    highlights: float = 3.0,
    axis: OpticalAxis | None = None,
) -> Tensor:
    """Render a photo with the blur of a lens.

    Layers of equal blur radius are composited from the farthest to the nearest. The subject in
    focus is excluded from the blurred background, whose weights are renormalised. Blurred
    foreground spreads over the layers behind it, and the regions that it uncovers are filled
    from their surroundings. Pixels in focus without foreground nearby keep their values.

    Args:
        image: (3, H, W) float32 in [0, 1], in focus everywhere.
        defocus: (H, W) float32, blur radius in pixels; positive behind the plane of focus, negative
            in front of it.
        shape: shape of the aperture; None for a uniform circle.
        highlights: linear light assumed for a clipped pixel (value 1.0), relative to white, >= 1.
            Only pixels close to 1.0 are expanded, and the result is compressed by the inverse.
        axis: the optical axis in the image, where it is a part of a photo; None for the centre. It
            matters for a shape with `cat_eye`.

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        ImageError: the sizes of `image` and `defocus` differ.
        ConfigError: `highlights` is below 1.
    """
    if image.shape[1:] != defocus.shape:
        raise ImageError(
            f"defocus: expected the size of the image, {tuple(image.shape[1:])}, "
            f"got {tuple(defocus.shape)}"
        )
    if highlights < 1:
        raise ConfigError(f"highlights: expected at least 1, got {highlights}")
    shape, reach = shape or LensShape(), math.ceil(float(defocus.abs().max()))
    if reach <= SHARP:
        return image
    light = _extend(_expand(image, highlights), reach)
    height, width = defocus.shape
    axis = (axis or OpticalAxis.centre(height, width)).moved(reach, reach)
    rendered = _composite(light, _extend(defocus[None], reach)[0], shape, axis)
    rendered = rendered[:, reach : reach + height, reach : reach + width]
    return _compress(rendered, highlights).clamp(0, 1)


def _expand(image: Tensor, peak: float) -> Tensor:
    """Convert to linear light and expand clipped highlights, so that value 1 becomes `peak`."""
    powered = power(image.clamp(0, 1), GAMMA * SHOULDER)
    limit = (powered * (peak**-SHOULDER - 1)).add_(1)
    return power(powered.div_(limit), 1 / SHOULDER)


def _compress(light: Tensor, peak: float) -> Tensor:
    """The inverse of `_expand`."""
    powered = light.clamp_min(0).square_().square_()
    limit = (powered * (1 - peak**-SHOULDER)).add_(1)
    return power(powered.div_(limit), 1 / (GAMMA * SHOULDER))


def _extend(field: Tensor, reach: int) -> Tensor:
    """Pad by the largest blur radius: reflect, or replicate if the photo is too small."""
    mode = "reflect" if reach < min(field.shape[-2:]) else "replicate"
    return F.pad(field[None], (reach, reach, reach, reach), mode=mode)[0]


def _composite(light: Tensor, defocus: Tensor, shape: LensShape, axis: OpticalAxis) -> Tensor:
    """Composite background, plane of focus and foreground of linear light (3, h, w)."""
    behind = functools.partial(_Disc, shape=shape, axis=axis, side=1)
    background = _render_background(light, defocus.clamp_min(0), behind)
    if not (defocus < -SHARP).any():
        return background
    before = functools.partial(_Disc, shape=shape, axis=axis, side=-1)
    return _render_foreground(light, -defocus, background, before)


def _render_background(light: Tensor, radius: Tensor, disc: Callable[[float], _Disc]) -> Tensor:
    """Render background and plane of focus; foreground pixels have radius 0 and add no light."""
    radii = _layer_radii(radius)
    total, cover = UNSEEN * light, torch.full_like(radius, UNSEEN)
    for index in range(len(radii) - 1, 0, -1):
        mask = _layer_weight(radius, radii, index)
        rows, columns, opacity = _lay_over(total, light, mask, disc(radii[index]))
        cover[rows, columns].mul_(1 - opacity).add_(opacity)
    return torch.lerp(total.div_(cover), light, _layer_weight(radius, radii, 0))


def _render_foreground(
    light: Tensor, radius: Tensor, background: Tensor, disc: Callable[[float], _Disc]
) -> Tensor:
    """Composite the blurred foreground over the rendered background.

    Each layer contains all pixels at its depth or nearer, so that a foreground with varying depth
    is opaque inside.
    """
    radius = radius.clamp_min(0)
    radii = _layer_radii(radius)
    weights = torch.stack([_layer_weight(radius, radii, i) for i in range(len(radii))])
    nearer = torch.cumsum(weights.flip(0), 0).flip(0)
    result = _fill(background, 1 - nearer[1])
    for index in range(1, len(radii)):
        _lay_over(result, light, nearer[index], disc(radii[index]))
    return result


def _layer_radii(radius: Tensor) -> list[float]:
    """0 and the radii of the blurred layers, evenly spaced in the square root of the radius."""
    largest = float(radius.amax())
    if largest <= SHARP:
        return [0.0]
    smallest = float(radius.masked_fill(radius <= SHARP, math.inf).amin())
    low, high = math.sqrt(smallest), math.sqrt(largest)
    # Nearly equal radii form one layer: two would show a seam, or would have distance 0.
    count = min(LAYERS, 1 + math.ceil(4 * (high - low) - 0.05))
    steps = torch.linspace(low, high, count) if count > 1 else torch.tensor([high])
    return [0.0, *(steps**2).tolist()]


def _layer_weight(radius: Tensor, radii: list[float], index: int) -> Tensor:
    """Weight of each pixel in a layer: linear interpolation between layers, weights sum to 1."""
    level, sides = radii[index], []
    if index > 0:
        below = radii[index - 1]
        sides.append((radius - below).div_(level - below))
    if index + 1 < len(radii):
        above = radii[index + 1]
        sides.append((above - radius).div_(above - level))
    if not sides:
        return torch.ones_like(radius)
    share = sides[0] if len(sides) == 1 else torch.minimum(*sides, out=sides[0])
    return share.clamp_(0, 1)


def _lay_over(
    total: Tensor, light: Tensor, mask: Tensor, disc: _Disc
) -> tuple[slice, slice, Tensor]:
    """Composite one blurred layer over the layers behind it, in place.

    Args:
        total: light of the layers behind, (3, h, w).
        light: linear light of the photo, (3, h, w); outside there is none.
        mask: weight of each pixel in the layer, (h, w).
        disc: disc of the layer.

    Returns:
        Rows and columns that the layer reaches, and its opacity there, in [0, 1].
    """
    rows, columns = (_reached(mask.sum(dim=1 - axis) > 0, disc.reach) for axis in (0, 1))
    mask = mask[rows, columns]
    if not mask.numel():
        return rows, columns, mask
    blurred = disc.filter(rows, columns)
    opacity = blurred(mask).clamp(0, 1)
    passed = 1 - opacity
    for behind, plane in zip(total[:, rows, columns], light[:, rows, columns], strict=True):
        behind.mul_(passed).add_(blurred(plane * mask))
    return rows, columns, opacity


def _reached(used: Tensor, reach: int) -> slice:
    """Range of the pixels that are at most `reach` away from the used ones."""
    places = used.nonzero()
    if not len(places):
        return slice(0, 0)
    return slice(max(0, int(places[0]) - reach), min(len(used), int(places[-1]) + reach + 1))


def _fill(colour: Tensor, known: Tensor) -> Tensor:
    """Fill pixels of (3, h, w) where `known` (h, w) in [0, 1] is below 1, by push-pull pyramids."""
    if min(known.shape) < 2 or float(known.min()) > 1 - UNSEEN:
        return colour
    coarse = F.avg_pool2d(torch.cat([colour * known, known[None]])[None], 2, ceil_mode=True)[0]
    weight = coarse[3].clamp_min(UNSEEN)
    filled = _fill(coarse[:3] / weight, (weight * 4).clamp(max=1))
    filled = F.interpolate(filled[None], known.shape, mode="bilinear", align_corners=False)[0]
    return torch.lerp(filled, colour, known)
