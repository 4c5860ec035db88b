"""Lens blur of a photo from a defocus map: layers are composited from back to front.

Each point of a scene is imaged as a disc with the shape of the lens aperture, and near discs
occlude far discs. The photo is rendered in layers, in linear light with expanded highlights, after
Peng et al., BokehMe (CVPR 2022), section 3.1. Regions that the blurred foreground uncovers are
filled after Kraus and Strengert, Depth-of-field rendering by pyramidal image processing (2007).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import ConfigError, ImageError
from refusion.synthesis.camera import GAMMA, power
from refusion.synthesis.cat_eye import OpticalAxis
from refusion.synthesis.lens_disc import SHARP, Disc, LensShape

LAYERS = 7  # largest number of layers in front of, and behind, the plane of focus
SHOULDER = 4  # exponent of the highlight expansion; larger values affect only brighter pixels
UNSEEN = 1e-4  # weight of the unblurred photo, visible where all layers are transparent
CELL = 64  # smallest side of the cells that fill a part as the whole photo
_TRANSPARENT = 1e-5  # opacity of a foreground that is not there, above the error of the transforms


@dataclass(frozen=True)
class Layers:
    """Blur radii in pixels of the layers of a photo.

    Attributes:
        behind: 0 for the plane of focus, and the layers behind it, from the nearest.
        before: likewise in front of it.
        reach: largest radius of a pixel, rounded up; 0 if all pixels are in focus.
    """

    behind: tuple[float, ...]
    before: tuple[float, ...]
    reach: int

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> Layers:
        """The layers of a photo.

        Args:
            parts: defocus of all parts of the photo, (h, w) each, see `render_bokeh`.
        """
        smallest, largest = [math.inf, math.inf], [0.0, 0.0]
        for part in parts:
            for side, radius in enumerate((part, -part)):
                blurred = radius.masked_fill(radius <= SHARP, math.inf)
                smallest[side] = min(smallest[side], float(blurred.amin()))
                largest[side] = max(largest[side], float(radius.amax()))
        behind, before = map(_layer_radii, smallest, largest)
        reach = max(largest)
        return cls(behind, before, math.ceil(reach) if reach > SHARP else 0)


@dataclass(frozen=True)
class PhotoPart:
    """A picture as a part of a photo that is rendered part by part.

    The result is that of the whole photo, except near the inner borders of the part: the radius of
    the largest disc there is wrong, and one more radius (at least `CELL`) if the photo has a
    foreground, because the colours behind it come from its surroundings.

    Attributes:
        layers: the layers of the whole photo.
        size: height and width of the whole photo.
        top: first row of the part.
        left: first column of the part.
    """

    layers: Layers
    size: tuple[int, int]
    top: int = 0
    left: int = 0


def render_bokeh(
    image: Tensor,
    defocus: Tensor,
    shape: LensShape | None = None,
    highlights: float = 3.0,
    axis: OpticalAxis | None = None,
    part: PhotoPart | None = None,
) -> Tensor:
    """Render a photo with the blur of a lens.

    Layers of equal blur radius are composited from the farthest to the nearest. The subject in
    focus is excluded from the blurred background, whose weights are renormalised. Blurred
    foreground spreads over the layers behind it, and the regions that it uncovers are filled
    from their surroundings. Pixels in focus without foreground nearby keep their values exactly.

    Args:
        image: (3, H, W) float32 in [0, 1], in focus everywhere.
        defocus: (H, W) float32, blur radius in pixels; positive behind the plane of focus, negative
            in front of it.
        shape: shape of the aperture; None for a uniform circle.
        highlights: linear light assumed for a clipped pixel (value 1.0), relative to white, >= 1.
            Only pixels close to 1.0 are expanded, and the result is compressed by the inverse.
        axis: the optical axis in the image; None for the centre of the photo. It matters for a
            shape with `cat_eye`.
        part: where the image lies in the photo; None for the whole photo.

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
    height, width = defocus.shape
    part = part or PhotoPart(Layers.of([defocus]), (height, width))
    if not part.layers.reach or not defocus.any():
        return image
    margins = _margins(part, height, width)
    top, left = margins[0], margins[2]
    axis = axis or OpticalAxis.centre(*part.size).moved(-part.top, -part.left)
    disc = functools.partial(Disc, shape=shape or LensShape(), axis=axis.moved(top, left))
    light = _extend(_expand(image, highlights), part, margins)
    rendered, kept = _composite(light, _extend(defocus[None], part, margins)[0], part, disc)
    rows, columns = slice(top, top + height), slice(left, left + width)
    shown = _compress(rendered[:, rows, columns], highlights).clamp(0, 1)
    return torch.where(kept[rows, columns], image, shown)


def _margins(part: PhotoPart, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels that are added above, below, left and right: at the borders of the photo only."""
    borders = (
        part.top == 0,
        part.top + height == part.size[0],
        part.left == 0,
        part.left + width == part.size[1],
    )
    return tuple(part.layers.reach * is_border for is_border in borders)


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


def _extend(field: Tensor, part: PhotoPart, margins: tuple[int, int, int, int]) -> Tensor:
    """Add the margins: reflect, or replicate if the photo is too small."""
    above, below, left, right = margins
    mode = "reflect" if part.layers.reach < min(part.size) else "replicate"
    return F.pad(field[None], (left, right, above, below), mode=mode)[0]


def _composite(
    light: Tensor, defocus: Tensor, part: PhotoPart, disc: Callable[..., Disc]
) -> tuple[Tensor, Tensor]:
    """Composite background, plane of focus and foreground of linear light (3, h, w).

    Returns:
        The light, and whether each pixel (h, w) is that of the photo.
    """
    layers = part.layers
    result, sharp = _render_background(
        light, defocus.clamp_min(0), layers.behind, functools.partial(disc, side=1)
    )
    kept = sharp == 1
    if len(layers.before) > 1:
        result, opacity = _render_foreground(
            light, (-defocus).clamp_min(0), result, part, functools.partial(disc, side=-1)
        )
        kept &= opacity < _TRANSPARENT
    return result, kept


def _render_background(
    light: Tensor, radius: Tensor, radii: Sequence[float], disc: Callable[[float], Disc]
) -> tuple[Tensor, Tensor]:
    """Render background and plane of focus; foreground pixels have radius 0 and add no light.

    Returns:
        The light, and the weight of the plane of focus (h, w).
    """
    total, cover = UNSEEN * light, torch.full_like(radius, UNSEEN)
    for index in range(len(radii) - 1, 0, -1):
        mask = _layer_weight(radius, radii, index)
        rows, columns, opacity = _lay_over(total, light, mask, disc(radii[index]))
        cover[rows, columns].mul_(1 - opacity).add_(opacity)
    sharp = _layer_weight(radius, radii, 0)
    return torch.lerp(total.div_(cover), light, sharp), sharp


def _render_foreground(
    light: Tensor,
    radius: Tensor,
    background: Tensor,
    part: PhotoPart,
    disc: Callable[[float], Disc],
) -> tuple[Tensor, Tensor]:
    """Composite the blurred foreground over the rendered background.

    Each layer contains all pixels at its depth or nearer, so that a foreground with varying depth
    is opaque inside.

    Returns:
        The light, and the opacity of the foreground (h, w).
    """
    radii = part.layers.before
    weights = torch.stack([_layer_weight(radius, radii, i) for i in range(len(radii))])
    nearer = torch.cumsum(weights.flip(0), 0).flip(0)
    result = _fill_part(background, 1 - nearer[1], part)
    cover = torch.zeros_like(radius)
    for index in range(1, len(radii)):
        rows, columns, opacity = _lay_over(result, light, nearer[index], disc(radii[index]))
        cover[rows, columns].mul_(1 - opacity).add_(opacity)
    return result, cover


def _layer_radii(smallest: float, largest: float) -> tuple[float, ...]:
    """0 and the radii of the blurred layers, evenly spaced in the square root of the radius.

    `smallest` and `largest` are those of the blurred pixels.
    """
    if largest <= SHARP:
        return (0.0,)
    low, high = math.sqrt(smallest), math.sqrt(largest)
    # Nearly equal radii form one layer: two would show a seam, or would have distance 0.
    count = min(LAYERS, 1 + math.ceil(4 * (high - low) - 0.05))
    steps = torch.linspace(low, high, count) if count > 1 else torch.tensor([high])
    return (0.0, *(steps**2).tolist())


def _layer_weight(radius: Tensor, radii: Sequence[float], index: int) -> Tensor:
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
    total: Tensor, light: Tensor, mask: Tensor, disc: Disc
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


def _fill_part(colour: Tensor, known: Tensor, part: PhotoPart) -> Tensor:
    """Fill unknown pixels with pyramids whose cells are those of the whole photo.

    Cells that are larger than a disc can differ, but nothing that is visible depends on them.
    """
    reach = part.layers.reach
    cell = max(CELL, 1 << (2 * reach - 1).bit_length())  # a power of 2 from twice the reach
    above, left = ((start + reach) % cell if start else 0 for start in (part.top, part.left))
    if above or left:
        colour, known = (F.pad(field, (left, 0, above, 0)) for field in (colour, known))
    return _fill(colour, known)[:, above:, left:]


def _fill(colour: Tensor, known: Tensor) -> Tensor:
    """Fill pixels of (3, h, w) where `known` (h, w) in [0, 1] is below 1, by push-pull pyramids."""
    if min(known.shape) < 2 or float(known.min()) > 1 - UNSEEN:
        return colour
    coarse = F.avg_pool2d(torch.cat([colour * known, known[None]])[None], 2, ceil_mode=True)[0]
    weight = coarse[3].clamp_min(UNSEEN)
    filled = _fill(coarse[:3] / weight, (weight * 4).clamp(max=1))
    filled = F.interpolate(filled[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    height, width = known.shape  # a pixel less than twice the coarse side if that was rounded up
    return torch.lerp(filled[:, :height, :width], colour, known)
