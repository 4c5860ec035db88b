"""Materials of ground, walls and tables: random textures with colour and relief.

Colours are display values of a well-exposed photo. Lengths are in pixels of the texture. Sizes of
grains and tiles are log-uniform, because photos of surfaces have no typical scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.scenes.textures import (
    Cells,
    Tiles,
    draw_cells,
    draw_strokes,
    lay_tiles,
    spectral_noise,
)

Colour = tuple[float, float, float]

WARM = torch.tensor([1.0, 0.1, -1.0])

STONE: tuple[Colour, ...] = (
    (0.62, 0.6, 0.57),  # concrete
    (0.72, 0.69, 0.64),
    (0.48, 0.47, 0.45),
    (0.74, 0.64, 0.55),  # warm paving
    (0.6, 0.53, 0.43),
    (0.55, 0.56, 0.58),
    (0.4, 0.38, 0.34),
)
ASPHALT: tuple[Colour, ...] = (
    (0.36, 0.36, 0.37),
    (0.52, 0.51, 0.5),
    (0.22, 0.22, 0.23),
    (0.58, 0.55, 0.57),
    (0.13, 0.13, 0.14),
)
GRAVEL: tuple[Colour, ...] = (
    (0.6, 0.55, 0.48),
    (0.55, 0.48, 0.36),
    (0.5, 0.49, 0.47),
    (0.68, 0.62, 0.53),
    (0.4, 0.33, 0.25),  # bark
)
SAND: tuple[Colour, ...] = (
    (0.74, 0.66, 0.52),
    (0.64, 0.53, 0.38),
    (0.5, 0.4, 0.29),  # soil
    (0.35, 0.27, 0.2),
    (0.66, 0.46, 0.33),
)
PAINT: tuple[Colour, ...] = (
    (0.86, 0.85, 0.82),
    (0.78, 0.72, 0.6),
    (0.8, 0.67, 0.46),  # cardboard, ochre wall
    (0.5, 0.38, 0.2),
    (0.55, 0.63, 0.68),
    (0.6, 0.66, 0.55),
    (0.68, 0.36, 0.28),
    (0.16, 0.17, 0.2),
    (0.3, 0.42, 0.56),
    (0.85, 0.68, 0.3),
)
WOOD: tuple[Colour, ...] = (
    (0.72, 0.5, 0.28),
    (0.58, 0.38, 0.2),
    (0.74, 0.62, 0.46),
    (0.48, 0.44, 0.4),  # weathered
    (0.3, 0.2, 0.13),
    (0.36, 0.35, 0.28),
)
BRICK: tuple[Colour, ...] = (
    (0.66, 0.38, 0.28),
    (0.72, 0.5, 0.36),
    (0.5, 0.3, 0.24),
    (0.62, 0.56, 0.5),
    (0.36, 0.34, 0.34),
)
LEAF: tuple[Colour, ...] = (
    (0.4, 0.52, 0.2),
    (0.34, 0.46, 0.16),
    (0.5, 0.56, 0.26),
    (0.3, 0.4, 0.2),
    (0.62, 0.57, 0.35),  # straw
)
PAPER: tuple[Colour, ...] = ((0.93, 0.93, 0.92), (0.9, 0.87, 0.8), (0.84, 0.85, 0.88))

JOINTS: tuple[Colour, ...] = ((0.17, 0.16, 0.14), (0.42, 0.4, 0.37), (0.75, 0.72, 0.67))


@dataclass(frozen=True)
class Texture:
    """A square, periodic texture.

    Attributes:
        albedo: (3, side, side) display values, about [0, 1].
        relief: (side, side) height in pixels.
    """

    albedo: Tensor
    relief: Tensor

    def lit(self, azimuth: float, height: float) -> Tensor:
        """Shade the relief by a directional light.

        Args:
            azimuth: direction towards the light in radians, 0 is right.
            height: tangent of the elevation of the light; low light shows more relief.

        Returns:
            (4, side, side): colours in [0, 1.5], then the relief in pixels.
        """
        across = self.relief.roll(1, 1).sub_(self.relief.roll(-1, 1)).mul_(math.cos(azimuth))
        across += self.relief.roll(1, 0).sub_(self.relief.roll(-1, 0)).mul_(math.sin(azimuth))
        # Lambert's law with gamma 2.2 and some light from above: about half of the slope
        shade = across.mul_(0.25 / height).add_(1).clamp_(0.3, 1.6)
        return torch.cat([(self.albedo * shade).clamp_(0, 1.5), self.relief[None]])


Material = Callable[[int, Generator], Texture]


def draw_colour(generator: Generator, palette: Sequence[Colour], spread: float = 0.12) -> Tensor:
    """Random colour near a random one of `palette`, (3,) in [0.02, 0.97]; `spread` is relative."""
    colour = torch.tensor(palette[randint(generator, 0, len(palette) - 1)])
    return (colour * _shades(1, generator, spread)[:, 0]).clamp(0.02, 0.97)


def _shades(count: int, generator: Generator, spread: float) -> Tensor:
    """Random factors (3, count) of brightness, with a smaller variation from cold to warm."""
    bright, warm = spread * torch.randn(2, 1, count, generator=generator)
    rest = 0.07 * spread * torch.randn(3, count, generator=generator)
    return torch.exp(bright + 0.3 * warm * WARM[:, None] + rest)


def _vary(colour: Tensor, index: Tensor, count: int, generator: Generator, spread: float) -> Tensor:
    """Colours (3, side, side) of `count` elements whose brightness varies by `spread`."""
    table = (colour[:, None] * _shades(count, generator, spread)).clamp_max_(1)
    return table.index_select(1, index.reshape(-1)).view(3, *index.shape)


def _plain(
    side: int, generator: Generator, palette: Sequence[Colour], rough: tuple[float, float]
) -> Texture:
    """One colour with large-scale variation, grain and pits."""
    colour, amount = draw_colour(generator, palette), log_uniform(generator, *rough)
    clouds = spectral_noise(side, generator, slope=uniform(generator, 1.0, 1.5), coarse=3.0)
    fineness = log_uniform(generator, 15, 120)
    grain = spectral_noise(side, generator, slope=1.1, coarse=fineness)
    cloudy = uniform(generator, 0.002, 0.012) + amount * uniform(generator, 0.1, 0.7)
    value = 1 + clouds.mul_(cloudy) + grain * (0.6 * amount)
    depth = uniform(generator, 0.2, 0.7) * bernoulli(generator, 0.5)
    pits = (grain - uniform(generator, 2.0, 3.2)).clamp_(0, 0.6).mul_(depth / 0.6)
    value *= 1 - pits
    return Texture(colour[:, None, None] * value, grain.mul_(6 * amount).sub_(pits))


def _concrete(side: int, generator: Generator) -> Texture:
    return _plain(side, generator, STONE, (0.025, 0.18))


def _wall(side: int, generator: Generator) -> Texture:
    return _plain(side, generator, PAINT, (0.004, 0.06))


def _paper(side: int, generator: Generator) -> Texture:
    return _plain(side, generator, PAPER, (0.002, 0.01))


def _sand(side: int, generator: Generator) -> Texture:
    """Fine grains on dunes and footprints, sometimes with ripples."""
    colour = draw_colour(generator, SAND)
    dunes = spectral_noise(side, generator, slope=2.3, coarse=log_uniform(generator, 5, 30))
    grain = spectral_noise(side, generator, slope=0.5, coarse=40)
    along = torch.arange(side)[:, None] * (2 * math.pi * randint(generator, 8, 30) / side)
    ripples = torch.sin(along + 1.2 * dunes).mul_(bernoulli(generator, 0.3))
    relief = dunes * uniform(generator, 0.3, 2) + ripples + grain * uniform(generator, 0.1, 0.5)
    value = 1 + 0.03 * dunes + grain.mul_(uniform(generator, 0.03, 0.12))
    return Texture(colour[:, None, None] * value, relief)


def _stones(
    side: int,
    generator: Generator,
    palette: Sequence[Colour],
    size: tuple[float, float],
    spread: tuple[float, float],
    gap: tuple[float, float],
) -> Texture:
    """Adjacent stones with dark gaps; `size` in pixels, `gap` is the darkness of the gaps."""
    across = max(3, round(side / log_uniform(generator, *size)))
    cells: Cells = draw_cells(side, generator, (across, across))
    colour, dark = draw_colour(generator, palette), uniform(generator, *gap)
    albedo = _vary(colour, cells.index, cells.count, generator, uniform(generator, *spread))
    dome = (cells.border * uniform(generator, 1.0, 2.6)).clamp_max_(1)
    # Stones that lie deeper are darker.
    level = torch.rand(cells.count, generator=generator)
    level = (level > uniform(generator, -0.3, 0.3)).float().mul_(level.sqrt())
    level = level.index_select(0, cells.index.view(-1)).view(side, side)
    dome = dome.mul(2 - dome).mul_((0.25 + 0.75 * level) * (level > 0))
    clouds = spectral_noise(side, generator, slope=0.8, coarse=6.0)
    value = (1 - dark + dark * dome).mul_(1 + clouds * uniform(generator, 0.05, 0.14))
    relief = dome.mul_(dark * uniform(generator, 0.5, 1.5) * (side / across) ** 0.5)
    return Texture(albedo.mul_(value), relief.add_(clouds, alpha=0.3))


def _asphalt(side: int, generator: Generator) -> Texture:
    return _stones(side, generator, ASPHALT, (3.0, 7.0), (0.05, 0.2), (0.05, 0.4))


def _gravel(side: int, generator: Generator) -> Texture:
    return _stones(side, generator, GRAVEL, (5.0, 40.0), (0.12, 0.35), (0.35, 0.8))


def _speckled(side: int, generator: Generator) -> Texture:
    """Stones in mortar, as in washed concrete and terrazzo."""
    return _stones(side, generator, STONE, (4.0, 16.0), (0.1, 0.3), (0.0, 0.25))


def _pave(
    side: int,
    base: Texture,
    tiles: Tiles,
    generator: Generator,
    spread: float,
    joints: Sequence[Colour] = JOINTS,
) -> Texture:
    """Tiles of a base material with joints."""
    factor = _vary(torch.ones(3), tiles.index, tiles.count, generator, spread)
    width = log_uniform(generator, 0.7, 5.0)
    joint = ((tiles.border * side - width).clamp_(-1, 1)).mul_(-0.5).add_(0.5)
    filler = draw_colour(generator, joints)
    albedo = torch.lerp(base.albedo * factor, filler[:, None, None].expand(3, 1, 1), joint)
    return Texture(albedo, base.relief - joint * uniform(generator, 0.3, 1.5))


def _slabs(side: int, generator: Generator) -> Texture:
    """Paving slabs and floor tiles in a grid or a bond."""
    base = (_concrete, _speckled, _wall)[randint(generator, 0, 2)](side, generator)
    down = round(log_uniform(generator, 2, 10))
    across = (down, max(1, round(down * uniform(generator, 0.5, 1.2))))
    shifts = torch.arange(down) % 2 * (0.5 * bernoulli(generator, 0.4))
    tiles = lay_tiles(side, across, shifts)
    return _pave(side, base, tiles, generator, uniform(generator, 0.0, 0.18))


def _bricks(side: int, generator: Generator) -> Texture:
    base = _plain(side, generator, BRICK, (0.02, 0.1))
    down = 2 * round(log_uniform(generator, 3, 12))
    tiles = lay_tiles(side, (down, max(2, down // 3)), torch.arange(down) % 2 * 0.5)
    return _pave(side, base, tiles, generator, uniform(generator, 0.08, 0.25))


def _planks(side: int, generator: Generator) -> Texture:
    """Boards with grain along their length, each with a different part of the grain."""
    down = round(log_uniform(generator, 3, 18))
    tiles = lay_tiles(side, (down, 1), torch.rand(down, generator=generator))
    grain = spectral_noise(side, generator, slope=1.0, coarse=30, stretch=(1.0, 22.0))
    rings = spectral_noise(side, generator, slope=2.0, coarse=3, stretch=(1.0, 5.0))
    rings = torch.sin(rings.mul_(uniform(generator, 4, 14)))
    start = torch.randint(side, (tiles.count,), generator=generator)[tiles.index]
    place = (torch.arange(side)[None] + start) % side
    figure = grain * uniform(generator, 0.05, 0.2) + rings * uniform(generator, 0.0, 0.12)
    value = 1 + figure.gather(1, place)
    base = Texture(draw_colour(generator, WOOD)[:, None, None] * value, value)
    return _pave(side, base, tiles, generator, uniform(generator, 0.03, 0.2), JOINTS[:1])


def _grass(side: int, generator: Generator) -> Texture:
    """Blades over soil, darker in depth; also carpets and straw."""
    is_carpet = bernoulli(generator, 0.15)
    colour = draw_colour(generator, PAINT if is_carpet else LEAF, 0.15)
    length = log_uniform(generator, 7, 26) * max(1.0, side / 384)
    width = uniform(generator, 1, 1 + length / 14)
    cover = uniform(generator, 3, 5.5) / (length * width)  # blades per pixel
    count = round(min(cover, 1 / 8) * side**2)
    angle = uniform(generator, 0, 2 * math.pi), uniform(generator, 0.3, 2.0)
    blades = draw_strokes(side, generator, count=count, length=length, width=width, angle=angle)
    patches = spectral_noise(side, generator, slope=1.2, coarse=4.0)
    deep, soil = uniform(generator, 0.2, 0.6), draw_colour(generator, SAND) * 0.5
    table = _vary(colour, blades.index.clamp_min(0), count, generator, uniform(generator, 0.1, 0.3))
    value = (deep + (1 - deep) * blades.depth).mul_(0.85 + 0.4 * blades.along)
    dry = patches.mul_(uniform(generator, 0.03, 0.14))
    value = value * (1.1 + dry)
    table *= value
    table[0].mul_(1 + dry)
    albedo = torch.where(blades.index >= 0, table, soil[:, None, None])
    return Texture(albedo, blades.depth * uniform(generator, 0.5, 1.5))


def _cloth(side: int, generator: Generator) -> Texture:
    """Woven threads with fibres and large folds."""
    across = 2 * round(side / log_uniform(generator, 5, 24) / 2)
    phase = torch.arange(side) * (2 * math.pi * across / side)
    wobble = spectral_noise(side, generator, slope=1.0, coarse=8.0)
    rows, columns = torch.sin(phase[:, None] + 0.4 * wobble), torch.sin(phase[None] - 0.4 * wobble)
    weave = rows * columns * 0.6 + 0.4 * torch.maximum(rows, columns)
    fibre = spectral_noise(side, generator, slope=0.4, coarse=50.0)
    value = 1 + weave.mul_(uniform(generator, 0.02, 0.14)) + 0.03 * wobble
    value += fibre * uniform(generator, 0.02, 0.07)
    colour = draw_colour(generator, PAINT + PAPER, 0.2)
    return Texture(colour[:, None, None] * value, value * uniform(generator, 0.5, 4))


MATERIALS: dict[str, tuple[Material, float]] = {
    "concrete": (_concrete, 0.16),
    "asphalt": (_asphalt, 0.14),
    "gravel": (_gravel, 0.1),
    "speckled": (_speckled, 0.06),
    "sand": (_sand, 0.08),
    "slabs": (_slabs, 0.12),
    "bricks": (_bricks, 0.06),
    "planks": (_planks, 0.08),
    "grass": (_grass, 0.1),
    "cloth": (_cloth, 0.05),
    "wall": (_wall, 0.13),
    "paper": (_paper, 0.06),
}


def draw_material(side: int, generator: Generator) -> Texture:
    """Generate a texture of a random material, chosen by the weights in `MATERIALS`.

    Args:
        side: side of the texture in pixels, even.
        generator: source of randomness.
    """
    weights = torch.tensor([weight for _, weight in MATERIALS.values()])
    kind = int(torch.multinomial(weights, 1, generator=generator))
    return list(MATERIALS.values())[kind][0](side, generator)
