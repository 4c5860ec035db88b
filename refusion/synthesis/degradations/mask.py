"""Masks for inpainting: lq = mask * gt + (1 - mask) * fill."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from refusion.errors import ConfigError, suggest
from refusion.files import open_regular
from refusion.hints import PathText
from refusion.images.cache import list_photos
from refusion.randomness import randint, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_range
from refusion.synthesis.scenes.frame import PhotoFrame

MAX_SHAPES = 400  # largest number of strokes or boxes, if the coverage is not reached before
TOLERANCE = 0.01  # allowed error of the coverage of boxes


@dataclass(frozen=True)
class Mask:
    """Replace parts of the photo by a constant value.

    Attributes:
        kinds: keys of `MASKS`; one is chosen with equal probability for each sample. A key that is
            listed twice is twice as frequent.
        coverage: (low, high), share of hidden pixels for the kinds strokes, boxes and expand.
        fill: value of hidden pixels in [0, 1]; the published models expect white, 1.
        folder: folder of mask images that are used instead of `kinds`; white pixels keep the
            photo. Masks are resized to the crop and mirrored at random.

    Raises:
        ConfigError: a kind is unknown, a range is not ascending or out of its domain, or the folder
            contains no images.
    """

    kinds: tuple[str, ...] = ("strokes", "strokes", "boxes", "half", "expand")
    coverage: tuple[float, float] = (0.1, 0.6)
    fill: float = 1.0
    folder: PathText | None = None

    def __post_init__(self) -> None:
        """Check every setting."""
        if not isinstance(self.kinds, tuple) or not self.kinds:
            raise ConfigError(f"Mask.kinds: expected a list of names, got {self.kinds!r}")
        for kind in self.kinds:
            if kind not in MASKS:
                raise ConfigError(f"Mask.kinds: unknown kind '{kind}'{suggest(kind, MASKS)}")
        check_range("Mask.coverage", self.coverage, 0.01, 0.99)
        if not isinstance(self.fill, (int, float)) or not 0 <= self.fill <= 1:
            raise ConfigError(f"Mask.fill: expected a value in [0, 1], got {self.fill!r}")
        if self.folder is not None:
            _masks_in(self.folder)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: the crop with hidden pixels, 8-bit levels."""
        return self._hidden(clean, self.draw(generator, (clean.shape[-2], clean.shape[-1])))

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> MaskScene:
        """Draw the mask of a photo, see `SceneDegradation`."""
        return MaskScene(self, int(torch.randint(2**62, (), generator=generator)))

    def apply(
        self, clean: Tensor, scene: MaskScene, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """{"lq" (3, H, W)}: a crop with the mask of its photo, mirrored at random."""
        mask = scene.mask((clean.shape[-2], clean.shape[-1]))
        axes = [axis for axis in (-2, -1) if randint(generator, 0, 1)]
        mask = mask.flip(axes)
        is_transposed = clean.shape[-2] == clean.shape[-1] and randint(generator, 0, 1)
        return self._hidden(clean, mask.mT if is_transposed else mask)

    def _hidden(self, clean: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"lq": quantise(clean.masked_fill(~mask, self.fill))}

    def draw(self, generator: Generator, size: tuple[int, int]) -> Tensor:
        """Draw a random mask.

        Args:
            generator: source of randomness.
            size: (H, W) in pixels.

        Returns:
            (1, H, W) bool, true where the photo is kept.
        """
        if self.folder is not None:
            return _from_folder(self.folder, size, generator)
        kind = self.kinds[randint(generator, 0, len(self.kinds) - 1)]
        return ~MASKS[kind](size, uniform(generator, *self.coverage), generator)[None]


@dataclass(frozen=True)
class MaskScene:
    """The mask of the crops of one photo, which are alike in size.

    Attributes:
        settings: the degradation.
        seed: seed of the mask.
        drawn: masks by the size of the crops; they are drawn when a crop first needs them.
    """

    settings: Mask
    seed: int
    drawn: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, size: tuple[int, int]) -> Tensor:
        """Mask (1, H, W) bool, true where the photo is kept; shared, do not modify."""
        if size not in self.drawn:
            generator = Generator().manual_seed(self.seed)
            self.drawn[size] = self.settings.draw(generator, size)
        return self.drawn[size]


def _strokes(size: tuple[int, int], coverage: float, generator: Generator) -> Tensor:
    """Curved brush strokes with round ends, added until the coverage is reached."""
    height, width = size
    canvas = Image.new("L", (width, height))
    draw, long_side = ImageDraw.Draw(canvas), max(size)
    for _ in range(MAX_SHAPES):
        if canvas.histogram()[255] / (height * width) >= coverage:
            break
        brush = uniform(generator, 0.015, 0.08) * long_side
        x, y = uniform(generator, 0, width), uniform(generator, 0, height)
        angle = uniform(generator, 0, 2 * math.pi)
        for _ in range(randint(generator, 1, 5)):
            angle += uniform(generator, -0.9, 0.9)
            length = uniform(generator, 0.02, 0.2) * long_side
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            _line(draw, (x, y), end, brush)
            x, y = end
    return torch.from_numpy(np.array(canvas) > 0)


def _line(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], width: float
) -> None:
    draw.line([start, end], fill=255, width=max(1, round(width)))
    for x, y in (start, end):
        draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)


def _boxes(size: tuple[int, int], coverage: float, generator: Generator) -> Tensor:
    """Axis-aligned boxes that may overlap; none is larger than the remaining area to hide."""
    height, width = size
    hidden = torch.zeros(size, dtype=torch.bool)
    for _ in range(MAX_SHAPES):
        left = (coverage - float(hidden.float().mean())) * height * width
        if left < TOLERANCE * height * width:
            break
        area = left * uniform(generator, 0.3, 1.0)
        ratio = math.exp(uniform(generator, -1.0, 1.0))
        rows = min(height, max(1, math.floor(math.sqrt(area * ratio))))
        columns = min(width, max(1, math.floor(area / rows)))
        top = randint(generator, 0, height - rows)
        start = randint(generator, 0, width - columns)
        hidden[top : top + rows, start : start + columns] = True
    return hidden


def _half(size: tuple[int, int], coverage: float, generator: Generator) -> Tensor:
    """The left, right, upper or lower half; the coverage is ignored."""
    hidden = torch.zeros(size, dtype=torch.bool)
    axis = randint(generator, 0, 1)
    hidden.narrow(axis, 0, size[axis] // 2)[:] = True
    return hidden.flip(axis) if randint(generator, 0, 1) else hidden


def _expand(size: tuple[int, int], coverage: float, generator: Generator) -> Tensor:
    """All pixels except a central window with the proportions of the photo."""
    height, width = size
    rows, columns = (max(1, round(side * math.sqrt(1 - coverage))) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    hidden = torch.ones(size, dtype=torch.bool)
    hidden[top : top + rows, left : left + columns] = False
    return hidden


def _lines(size: tuple[int, int], coverage: float, generator: Generator) -> Tensor:
    """Every second row or every second column; the coverage is ignored."""
    hidden = torch.zeros(size, dtype=torch.bool)
    if randint(generator, 0, 1):
        hidden[1::2] = True
    else:
        hidden[:, 1::2] = True
    return hidden


def _grid(size: tuple[int, int], coverage: float, generator: Generator) -> Tensor:
    """All pixels but one in each 2 x 2 block; the coverage is ignored."""
    hidden = torch.ones(size, dtype=torch.bool)
    hidden[::2, ::2] = False
    return hidden


MASKS: dict[str, Callable[[tuple[int, int], float, Generator], Tensor]] = {
    "strokes": _strokes,
    "boxes": _boxes,
    "half": _half,
    "expand": _expand,
    "every_second_line": _lines,
    "every_second_pixel": _grid,
}
"""Mask functions by name: (size, coverage, generator) -> hidden pixels, (H, W) bool."""


@functools.lru_cache(maxsize=4)
def _masks_in(folder: str) -> list[Path]:
    return list_photos([folder], "Mask.folder")


def _from_folder(folder: str, size: tuple[int, int], generator: Generator) -> Tensor:
    """A random mask of the folder, resized, and mirrored along each axis at random."""
    files = _masks_in(folder)
    path = files[randint(generator, 0, len(files) - 1)]
    with open_regular(path) as file, Image.open(file) as image:
        gray = image.convert("L").resize((size[1], size[0]), Image.Resampling.NEAREST)
    kept = torch.from_numpy(np.array(gray) >= 128)
    for axis in (0, 1):
        kept = kept.flip(axis) if randint(generator, 0, 1) else kept
    return kept[None]
