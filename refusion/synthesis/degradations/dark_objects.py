"""Dark objects in clean photos, so that a model learns that dark is not the same as shadow.

A shadow keeps the texture of the ground on both sides of its outline. A dark object has its own
texture and colour, so its outline is an edge of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.degradations.cast_shadow import Caster, pixel_of
from refusion.synthesis.degradations.shadow_shapes import SHAPES, Points, ShadowScene

_KINDS = ("polygon", "figure", "blob", "window")
_EDGE = (0.0005, 0.006)  # width of the edge, in long sides
_TINT = 0.5  # largest relative deviation of a channel of the colour from grey
_COLOURED_SHARE = 0.6  # the other objects are grey
_CONTRAST = (0.0, 1.0)  # of the texture; 0 is an object of one colour
_LIFT = (0.0, 0.08)  # display value that is added to the object, as by a sheen


@dataclass(frozen=True)
class DarkObject:
    """An object of a darker colour than the photo.

    Attributes:
        outline: outline and width of the edge.
        colour: (3, 1, 1), factor of the display values.
        contrast: contrast of the texture, 0..1.
        lift: display value that is added.
        is_flipped: whether the texture is that of the crop upside down and mirrored, or mirrored.
    """

    outline: Caster
    colour: Tensor
    contrast: float
    lift: float
    is_flipped: bool

    def over(self, photo: Tensor, clean: Tensor, points: Points) -> Tensor:
        """The photo (3, H, W) in [0, 1] with the object on it; the same shape and range.

        Args:
            photo: crop of a photo, which may show other objects.
            clean: the crop without objects; the object has its texture, mirrored.
            points: points of the crop in the photo.
        """
        cover = self.outline.occlusion(points, pixel_of(points))
        texture = clean.flip((-2, -1)) if self.is_flipped else clean.flip(-1)
        mean = texture.mean((1, 2), keepdim=True)
        surface = torch.lerp(mean, texture, self.contrast).mul_(self.colour).add_(self.lift)
        return torch.lerp(photo, surface.clamp_(0, 1), cover)


def draw_objects(
    generator: Generator,
    thumbnail: Tensor,
    count: tuple[int, int],
    brightness: tuple[float, float],
) -> list[DarkObject]:
    """Draw the dark objects of a photo.

    Args:
        generator: source of randomness.
        thumbnail: (3, h, w), the whole photo.
        count: smallest and largest number of objects.
        brightness: range of the factor of the display values, log-uniform.
    """
    height, width = thumbnail.shape[-2:]
    sides = (height / max(height, width), width / max(height, width))
    scene = ShadowScene(*sides, uniform(generator, 0, 6.28))
    return [_draw(generator, scene, brightness) for _ in range(randint(generator, *count))]


def _draw(generator: Generator, scene: ShadowScene, brightness: tuple[float, float]) -> DarkObject:
    kind = _KINDS[randint(generator, 0, len(_KINDS) - 1)]
    edge = log_uniform(generator, *_EDGE)
    level, is_coloured = log_uniform(generator, *brightness), bernoulli(generator, _COLOURED_SHARE)
    tint = _TINT * is_coloured * (2 * torch.rand(3, 1, 1, generator=generator) - 1)
    return DarkObject(
        outline=Caster(SHAPES[kind](generator, scene), edge, 0.0, 1.0),
        colour=level * (1 + tint),
        contrast=uniform(generator, *_CONTRAST),
        lift=uniform(generator, *_LIFT),
        is_flipped=bernoulli(generator, 0.5),
    )
