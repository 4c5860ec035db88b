"""Lens blur of one photo from a map of defocus: layers composited from back to front.

Every point of a scene becomes a disc (the image of the lens opening), and near discs cover far
ones. Layered rendering in linear light with expanded highlights, after Peng et al., BokehMe (CVPR
2022), section 3.1, and Kraus and Strengert, Depth-of-field rendering by pyramidal image processing
(2007), for the filling of what blurred foreground uncovers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import ConfigError, ImageError

SHARP = 0.5  # blur radius in pixels up to which a disc is one pixel
LAYERS = 7  # at most, before and behind the plane of focus each
DIRECT = 2.5  # radius up to which sliding a kernel costs less than a Fourier transform
GAMMA = 2.2
SHOULDER = 4.0  # how suddenly highlights rise towards their peak
UNSEEN = 1e-4  # share of the unblurred photo where a layer shows almost nothing of itself


@dataclass(frozen=True)
class LensShape:
    """What a point out of focus looks like.

    Attributes:
        blades: corners of the opening; 0 for a circle. Corners lie on the circle of the radius.
        rim: how much brighter the disc is at its rim than at its centre, as a share, >= 0.

    Raises:
        ConfigError: one or two blades, or a negative rim.
    """

    blades: int = 0
    rim: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a shape that no opening has."""
        if self.blades < 0 or self.blades in (1, 2):
            raise ConfigError(f"blades: expected 0 (a circle) or at least 3, got {self.blades}")
        if self.rim < 0:
            raise ConfigError(f"rim: expected a share >= 0, got {self.rim}")


@functools.lru_cache(maxsize=64)
def disc_kernel(radius: float, shape: LensShape | None = None) -> Tensor:
    """Image of a point: a disc with an anti-aliased rim.

    Args:
        radius: of the disc in pixels, >= 0; up to 0.5 the kernel is one pixel.
        shape: of the opening; None for a plain circle.

    Returns:
        (2 n + 1, 2 n + 1) float32 with sum 1, n = ceil(radius); shared between calls, not to be
        written to.
    """
    shape = shape or LensShape()
    reach = math.ceil(radius) if radius > SHARP else 0
    offset = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = torch.sqrt(offset[:, None] ** 2 + offset[None, :] ** 2)
    border = torch.full_like(distance, radius)
    if shape.blades:
        sector = 2 * math.pi / shape.blades
        angle = torch.atan2(offset[:, None], offset[None, :]) % sector - sector / 2
        border = radius * math.cos(sector / 2) / torch.cos(angle)
    coverage = (border - distance + 0.5).clamp(0, 1)
    kernel = coverage * (1 + shape.rim * (distance / border.clamp_min(SHARP)).clamp(max=1) ** 4)
    return kernel / kernel.sum() if reach else torch.ones(1, 1)


def render_bokeh(
    image: Tensor, defocus: Tensor, shape: LensShape | None = None, highlights: float = 3.0
) -> Tensor:
    """The photo as a lens would have taken it.

    Layers of equal blur are composited from the farthest to the nearest. The sharp subject gives
    no light to the background (masked out, and the rest normalised), blurred foreground spreads
    over what is behind it, and what it uncovers is filled from its surroundings. Pixels in focus
    with no foreground near keep their values.

    Args:
        image: (3, H, W) float32 in [0, 1], in focus everywhere.
        defocus: (H, W) float32, radius of each pixel's disc in pixels; positive behind the plane
            of focus, negative before it.
        shape: of the lens opening; None for a plain circle.
        highlights: light of a clipped pixel (1.0) relative to white, >= 1; only pixels near the
            clip are expanded, and the inverse is applied to the result.

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        ImageError: the sizes differ.
        ConfigError: highlights below 1.
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
    rendered = _composite(light, _extend(defocus[None], reach)[0], shape)
    height, width = defocus.shape
    rendered = rendered[:, reach : reach + height, reach : reach + width]
    return _compress(rendered, highlights).clamp(0, 1)


def _expand(image: Tensor, peak: float) -> Tensor:
    """Linear light, with the range lost at the clip put back: 1 becomes `peak`."""
    powered = image.clamp(0, 1) ** (GAMMA * SHOULDER)
    return (powered / (1 - (1 - peak**-SHOULDER) * powered)) ** (1 / SHOULDER)


def _compress(light: Tensor, peak: float) -> Tensor:
    """The inverse of `_expand`."""
    powered = light.clamp_min(0) ** SHOULDER
    return (powered / (1 + (1 - peak**-SHOULDER) * powered)) ** (1 / (GAMMA * SHOULDER))


def _extend(field: Tensor, reach: int) -> Tensor:
    """Mirror the borders outwards, as far as discs reach in; repeat where the photo is small."""
    mode = "reflect" if reach < min(field.shape[-2:]) else "replicate"
    return F.pad(field[None], (reach, reach, reach, reach), mode=mode)[0]


def _composite(light: Tensor, defocus: Tensor, shape: LensShape) -> Tensor:
    """Background, then the plane of focus, then foreground; light (3, h, w)."""
    behind = _behind(light, defocus.clamp_min(0), shape)
    return _before(light, -defocus, behind, shape) if (defocus < -SHARP).any() else behind


def _behind(light: Tensor, radius: Tensor, shape: LensShape) -> Tensor:
    """Background and plane of focus; the foreground, of radius 0 here, gives it no light."""
    levels = _levels(radius)
    total, cover = UNSEEN * light, torch.full_like(radius, UNSEEN)
    for index in range(len(levels) - 1, 0, -1):
        mask = _share(radius, levels, index)
        seen = _blur(torch.cat([light * mask, mask[None]]), levels[index], shape)
        opacity = seen[3].clamp(0, 1)
        total = total * (1 - opacity) + seen[:3]
        cover = cover * (1 - opacity) + opacity
    return torch.lerp(total / cover, light, _share(radius, levels, 0))


def _before(light: Tensor, radius: Tensor, behind: Tensor, shape: LensShape) -> Tensor:
    """Lay blurred foreground over what is behind it.

    A layer holds all that is as near as it or nearer: what it hides of itself is not missing
    then, and the opacity of a foreground with slopes is 1 inside.
    """
    levels = _levels(radius.clamp_min(0))
    nearer = torch.cumsum(
        torch.stack([_share(radius.clamp_min(0), levels, i) for i in range(len(levels))]).flip(0), 0
    ).flip(0)
    result = _fill(behind, 1 - nearer[1])
    for index in range(1, len(levels)):
        mask = nearer[index]
        seen = _blur(torch.cat([light * mask, mask[None]]), levels[index], shape)
        result = result * (1 - seen[3].clamp(0, 1)) + seen[:3]
    return result


def _levels(radius: Tensor) -> list[float]:
    """0 and the radii of the blurred layers, denser where a pixel more is easier seen."""
    blurred = radius[radius > SHARP]
    if not len(blurred):
        return [0.0]
    low, high = math.sqrt(float(blurred.min())), math.sqrt(float(blurred.max()))
    # Radii that hardly differ are one layer: two would have a seam, or no distance, between them.
    count = min(LAYERS, 1 + math.ceil(4 * (high - low) - 0.05))
    steps = torch.linspace(low, high, count) if count > 1 else torch.tensor([high])
    return [0.0, *(steps**2).tolist()]


def _share(radius: Tensor, levels: list[float], index: int) -> Tensor:
    """How much of a pixel belongs to a layer: hats between its neighbours, they add up to 1."""
    level, share = levels[index], torch.ones_like(radius)
    if index > 0:
        below = levels[index - 1]
        share = ((radius - below) / (level - below)).clamp(0, 1)
    if index + 1 < len(levels):
        share = torch.minimum(share, (levels[index + 1] - radius) / (levels[index + 1] - level))
    return share.clamp(0, 1)


def _blur(layer: Tensor, radius: float, shape: LensShape) -> Tensor:
    """Convolve (C, h, w) with a disc; what lies within a radius of the border is not valid."""
    kernel = disc_kernel(radius, shape)
    side = kernel.shape[-1]
    if radius <= DIRECT:
        weight = kernel.expand(len(layer), 1, side, side)
        return F.conv2d(layer[None], weight, padding=side // 2, groups=len(layer))[0]
    size = [32 * math.ceil(extent / 32) for extent in layer.shape[-2:]]
    spectrum = torch.fft.rfft2(layer, size) * torch.fft.rfft2(kernel, size)
    blurred = torch.fft.irfft2(spectrum, size).roll((-(side // 2), -(side // 2)), (-2, -1))
    return blurred[:, : layer.shape[-2], : layer.shape[-1]]


def _fill(colour: Tensor, known: Tensor) -> Tensor:
    """Push-pull interpolation of (3, h, w) where `known` (h, w) in [0, 1] is not 1."""
    if min(known.shape) < 2 or float(known.min()) > 1 - UNSEEN:
        return colour
    coarse = F.avg_pool2d(torch.cat([colour * known, known[None]])[None], 2, ceil_mode=True)[0]
    weight = coarse[3].clamp_min(UNSEEN)
    filled = _fill(coarse[:3] / weight, (weight * 4).clamp(max=1))
    filled = F.interpolate(filled[None], known.shape, mode="bilinear", align_corners=False)[0]
    return torch.lerp(filled, colour, known)
