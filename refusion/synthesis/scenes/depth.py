"""Random depth maps for photos without depth: ground planes, rooms, layers along image edges.

Each function takes a photo (3, h, w) in [0, 1] and a generator, and returns a depth map (h, w) in
(0, 1], where 1 is the farthest point.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.randomness import uniform
from refusion.synthesis.scenes.fields import photo_coordinates, smooth_field
from refusion.synthesis.scenes.windows import guided_filter


def veil_depth(photo: Tensor, generator: Generator) -> Tensor:
    """Nearly constant depth: a flat subject, or haze close to the lens."""
    field = smooth_field(_size(photo), generator, modes=2)
    return _normalise(1 + uniform(generator, 0.0, 0.12) * field.clamp(-2.5, 2.5))


def ground_depth(photo: Tensor, generator: Generator) -> Tensor:
    """Ground plane seen from eye height, up to its horizon, with objects on it."""
    rows, columns = photo_coordinates(*_size(photo))
    tilt = uniform(generator, -0.12, 0.12)
    below = (rows - uniform(generator, 0.05, 0.65) - tilt * (columns - 0.5)).clamp_min(0)
    nearness = uniform(generator, 0.06, 0.5)
    return _with_objects(nearness / (below + nearness), photo, generator)


def room_depth(photo: Tensor, generator: Generator) -> Tensor:
    """Distance to the walls of a randomly rotated room around the camera, with objects in it."""
    height, width = _size(photo)
    rows, columns = photo_coordinates(height, width)
    x = (2 * columns - 1 + uniform(generator, -0.3, 0.3)).expand(height, width)
    y = ((2 * rows - 1 + uniform(generator, -0.3, 0.3)) * height / width).expand(height, width)
    focal = uniform(generator, 0.8, 1.7)
    yaw = uniform(generator, -0.7, 0.7)
    across = x * math.cos(yaw) + focal * math.sin(yaw)
    ahead = (focal * math.cos(yaw) - x * math.sin(yaw)).clamp_min(1e-3)
    left, right = uniform(generator, 0.5, 2.0), uniform(generator, 0.5, 2.0)
    top, bottom = uniform(generator, 0.4, 1.2), uniform(generator, 0.4, 1.2)
    reach = uniform(generator, 1.5, 4.0) / ahead
    to_side = torch.where(across > 0, right, left) / across.abs().clamp_min(1e-3)
    to_level = torch.where(y > 0, bottom, top) / y.abs().clamp_min(1e-3)
    reach = torch.minimum(reach, torch.minimum(to_side, to_level))
    distance = reach * torch.sqrt(x**2 + y**2 + focal**2)
    return _with_objects(_normalise(distance), photo, generator)


def layered_depth(photo: Tensor, generator: Generator) -> Tensor:
    """Layers of constant depth, such as mountain ridges; borders follow edges of the photo."""
    near = uniform(generator, 0.03, 0.4)
    return near + (1 - near) * _layers(photo, generator)


def smooth_depth(photo: Tensor, generator: Generator) -> Tensor:
    """Smooth random depth that does not depend on the photo."""
    near = uniform(generator, 0.25, 0.7)
    field = smooth_field(_size(photo), generator, modes=3)
    return near + (1 - near) * torch.sigmoid(1.5 * field)


DEPTHS = {
    "veil": veil_depth,
    "ground": ground_depth,
    "room": room_depth,
    "layers": layered_depth,
    "smooth": smooth_depth,
}
"""Depth functions by name: (photo (3, h, w) in [0, 1], generator) -> depth (h, w) in (0, 1]."""


def _size(photo: Tensor) -> tuple[int, int]:
    return photo.shape[-2], photo.shape[-1]


def _normalise(depth: Tensor) -> Tensor:
    return depth / depth.amax()


def _with_objects(depth: Tensor, photo: Tensor, generator: Generator) -> Tensor:
    """Move some image regions nearer than the background."""
    strength = uniform(generator, 0.0, 0.7)
    return depth * (1 - strength * (1 - _layers(photo, generator)))


def _features(photo: Tensor) -> Tensor:
    """Features that correlate with depth, (4, h, w): brightness, greyness, blueness, height."""
    high, low = photo.amax(0), photo.amin(0)
    rows, _ = photo_coordinates(*_size(photo))
    up = (1 - rows).expand_as(high)
    return torch.stack([photo.mean(0), low - high, photo[2] - photo[0], up])


def _layers(photo: Tensor, generator: Generator, levels: tuple[int, int] = (2, 7)) -> Tensor:
    """Random combination of depth features, quantised and smoothed along edges; (h, w) in [0, 1].

    Skies are bright, blue and at the top, so the mean weights are positive, but a weight may also
    be negative.
    """
    lean = torch.tensor([0.5, 0.3, 0.3, 0.9])
    spread = torch.tensor([1.0, 0.7, 0.7, 0.5])
    weights = lean + spread * torch.randn(4, generator=generator)
    features = _features(photo)
    features = features - features.mean((1, 2), keepdim=True)
    features = features / features.std((1, 2), keepdim=True).clamp_min(0.02)
    mix = (weights[:, None, None] * features).sum(0)
    mix = mix + uniform(generator, 0.0, 1.0) * smooth_field(_size(photo), generator, modes=4)
    mix = F.avg_pool2d(mix[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    mix = (mix - mix.amin()) / (mix.amax() - mix.amin()).clamp_min(1e-6)
    count = int(torch.randint(levels[0], levels[1], (), generator=generator))
    steps = torch.rand(count, generator=generator).sort().values
    steps = (steps - steps[0]) / (steps[-1] - steps[0]).clamp_min(1e-3)
    posterised = steps[(mix * count).long().clamp(max=count - 1)]
    return _smooth_along_edges(posterised, photo, uniform(generator, 0.03, 0.08))


def _smooth_along_edges(field: Tensor, photo: Tensor, radius: float) -> Tensor:
    """Guided filter (He et al. 2013) with the photo as guide; radius relative to the long side."""
    kernel = 2 * max(1, round(radius * max(_size(photo)))) + 1
    kernel = min(kernel, 2 * (min(_size(photo)) // 2) - 1)
    return guided_filter(photo.mean(0), field, kernel, 4e-3).clamp(0, 1)
