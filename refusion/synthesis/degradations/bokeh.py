"""Bokeh transformation: what one lens photographed, as another lens would have (NTIRE 2023).

A thin lens focused at distance z_f with f-number N blurs what lies at z by a disc whose radius is
proportional to |1/z_f - 1/z| / N. A lens is written as in the challenge's files: ten times its
f-number, positive for Sony, negative for Canon (18 is Sony f/1.8, -14 is Canon f/1.4).

The disparity of a pair is the radius, in pixels of the very image that is processed, of the discs
of the farthest background at f/1.8. Whoever shrinks a photo shrinks its disparity with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.filters import guided_blur
from torch import Generator, Tensor

from refusion.optics.defocus import blur_radius, defocus_guide
from refusion.randomness import bernoulli, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.lens_blur import LensShape, render_bokeh
from refusion.synthesis.scenes.depth import DEPTHS
from refusion.synthesis.scenes.fields import photo_coordinates, smooth_field
from refusion.synthesis.scenes.frame import GRID, PhotoFrame

LENSES = (160.0, 40.0, 28.0, 18.0, -160.0, -40.0, -28.0, -14.0)
"""Lenses that pairs are drawn from: Sony f/16, f/4, f/2.8, f/1.8, Canon f/16, f/4, f/2.8, f/1.4."""

SCENES = ("subject", "ground", "room", "layers", "smooth")
SONY = LensShape()
CANON = LensShape(blades=8, rim=0.5)
EDGE = 1.5  # pixels of a thumbnail over which its edges are moved to those of the crop
STEEPNESS = 5.0  # how much narrower steps of the defocus become there


@dataclass(frozen=True)
class Bokeh:
    """A photo in focus everywhere, as two lenses would have taken a layered scene of its content.

    Pairs are (low, high) of a uniform draw, shares are probabilities, weights relative frequencies.

    Attributes:
        scene_weights: of a subject before a background, ground, room, layers and smooth depth.
        lens_weights: of the lenses in `LENSES`, drawn twice; the source is the one of the two that
            blurs less.
        sharp_share: part of the pairs whose source is Sony f/16, nearly sharp.
        swap_share: part of the pairs where source and target change places: blurred to sharper.
        identity_share: part of the pairs with equal lenses, where nothing is to be changed.
        blur: radius of the farthest background's discs at f/1.8, in parts of the photo's long side.
        foreground_share: part of the scenes with blurred objects before the plane of focus.
        in_focus: depth of the zone in focus, in parts of the farthest background's defocus.
        highlights: light of clipped pixels relative to white.

    Raises:
        ConfigError: a setting is out of its domain or a range is reversed.
    """

    scene_weights: tuple[float, float, float, float, float] = (0.5, 0.15, 0.1, 0.15, 0.1)
    lens_weights: tuple[float, float, float, float, float, float, float, float] = (
        3.0,
        1.0,
        1.0,
        3.0,
        1.0,
        1.0,
        1.0,
        3.0,
    )
    sharp_share: float = 0.5
    swap_share: float = 0.0
    identity_share: float = 0.05
    blur: tuple[float, float] = (0.004, 0.022)
    foreground_share: float = 0.2
    in_focus: tuple[float, float] = (0.02, 0.15)
    highlights: tuple[float, float] = (1.0, 4.0)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"highlights": (1.0, 20.0), "blur": (0.0, 0.1)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """The crop through two lenses.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            generator: source of randomness.
            frame: the crop's place; depth and blur belong to the photo.

        Returns:
            As `photograph`; the disparity is in pixels of the crop.
        """
        source, target = self._draw_lenses(generator)
        strength = uniform(generator, *self.blur)
        highlights = uniform(generator, *self.highlights)
        scene = self._draw_scene(frame.thumbnail, generator)
        scale = _long_side(frame, (clean.shape[-2], clean.shape[-1]))
        defocus, disparity = _defocus_of_crop(scene, clean, frame, scale), strength * scale
        return photograph(clean, defocus, (source, target, disparity), highlights)

    def _draw_lenses(self, generator: Generator) -> tuple[float, float]:
        pair = [LENSES[_pick(self.lens_weights, generator)] for _ in range(2)]
        is_sharp, is_swapped, is_equal = (
            bernoulli(generator, share)
            for share in (self.sharp_share, self.swap_share, self.identity_share)
        )
        source, target = sorted(pair, key=abs, reverse=True)
        source = LENSES[0] if is_sharp else source
        if is_swapped:
            source, target = target, source
        return source, source if is_equal else target

    def _draw_scene(self, photo: Tensor, generator: Generator) -> Tensor:
        """Defocus of the whole photo (h, w): 0 in focus, 1 the farthest, negative before it."""
        kind = SCENES[_pick(self.scene_weights, generator)]
        tolerance = uniform(generator, *self.in_focus)
        has_foreground = bernoulli(generator, self.foreground_share)
        nearest = -uniform(generator, 0.3, 1.0) if has_foreground else 0.0
        if kind == "subject":
            return _subject_before_background(photo, generator)
        depth = DEPTHS[kind](photo, generator)
        return _focus(depth, uniform(generator, 0.1, 0.6), tolerance).clamp(nearest, 1.0)


def lens_shape(number: float) -> LensShape:
    """Discs of a maker's lenses.

    Sony's are plain circles, Canon's octagons with a rim half again as bright as their centre:
    mild stand-ins, so that the sign of the lens number carries what it does in the challenge.

    Args:
        number: ten times the f-number, negative for Canon.
    """
    return CANON if number < 0 else SONY


def photograph(
    clean: Tensor, defocus: Tensor, lens: tuple[float, float, float], highlights: float
) -> dict[str, Tensor]:
    """A scene through two lenses.

    Args:
        clean: (3, H, W) float32 in [0, 1], in focus everywhere.
        defocus: (H, W), radii of the discs in parts of the largest, negative before the plane of
            focus.
        lens: numbers of source and target lens, and the largest radius at f/1.8 in pixels.
        highlights: see `render_bokeh`.

    Returns:
        "lq", the source lens, and "gt", the target lens, (3, H, W), 8-bit levels; "lens" (3,)
        float32; "guide" (2, H, W): where and how far each lens blurs, see `defocus_guide`.
    """
    lq, gt = (
        quantise(
            render_bokeh(
                clean, defocus * blur_radius(number, lens[2]), lens_shape(number), highlights
            )
        )
        for number in lens[:2]
    )
    guide = defocus_guide(defocus, lens)
    return {"lq": lq, "gt": gt, "lens": torch.tensor(lens), "guide": guide}


def _pick(weights: tuple[float, ...], generator: Generator) -> int:
    return int(
        torch.multinomial(torch.tensor(weights, dtype=torch.float32), 1, generator=generator)
    )


def _focus(depth: Tensor, nearer_share: float, tolerance: float) -> Tensor:
    """Thin lens focused where `nearer_share` of the photo is nearer; the farthest gives 1."""
    distance = torch.quantile(depth, nearer_share).clamp(max=0.95)
    defocus = (1 / distance - 1 / depth) / (1 / distance - 1)
    return defocus.sign() * (defocus.abs() - tolerance).clamp_min(0) / (1 - tolerance)


def _subject_before_background(photo: Tensor, generator: Generator) -> Tensor:
    """Something in focus, and behind it a background that is nearly or quite as far as the rest."""
    size = (photo.shape[-2], photo.shape[-1])
    subject = _subject(photo, generator)
    nearest = uniform(generator, 0.4, 1.0)
    background = torch.sigmoid(1.5 * smooth_field(size, generator, modes=2))
    background = background / background.amax()
    return (1 - subject) * (nearest + (1 - nearest) * background)


def _subject(photo: Tensor, generator: Generator) -> Tensor:
    """Region of like colour around a point below the middle, (h, w) in [0, 1].

    Its border is steep where colours change, and a slope in depth where they do not.
    """
    size = (photo.shape[-2], photo.shape[-1])
    rows, columns = photo_coordinates(*size)
    row, column = uniform(generator, 0.45, 0.85), uniform(generator, 0.25, 0.75)
    tall, wide = uniform(generator, 0.15, 0.5), uniform(generator, 0.12, 0.4)
    away = ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2
    smoothed = F.avg_pool2d(photo[None], 5, 1, 2, count_include_pad=False)[0]
    own = smoothed[:, int(row * size[0]), int(column * size[1]), None, None]
    unlike = (smoothed - own).square().sum(0) / uniform(generator, 0.1, 0.3) ** 2
    score = 0.3 * smooth_field(size, generator, modes=6) - away - unlike.clamp(max=8)
    border = torch.quantile(score, 1 - uniform(generator, 0.12, 0.5))
    return torch.sigmoid(uniform(generator, 2.0, 6.0) * (score - border))


def _long_side(frame: PhotoFrame, size: tuple[int, int]) -> float:
    """Long side that the whole photo has at the crop's resolution, in pixels."""
    rows, columns = frame.coordinates(size)
    across = torch.hypot(rows[0, -1] - rows[0, 0], columns[0, -1] - columns[0, 0])
    down = torch.hypot(rows[-1, 0] - rows[0, 0], columns[-1, 0] - columns[0, 0])
    return (size[0] + size[1] - 2) / max(float(across + down), 1e-6)


def _defocus_of_crop(scene: Tensor, crop: Tensor, frame: PhotoFrame, long_side: float) -> Tensor:
    """The crop's part of the photo's defocus (h, w), its steps moved to the crop's edges."""
    size = (crop.shape[-2], crop.shape[-1])
    field = frame.crop(scene[None], size)
    reach = min(max(1, round(EDGE * long_side / GRID)), (min(size) - 1) // 2)
    side = 2 * reach + 1
    guided = guided_blur(crop.mean(0)[None, None], field[None], side, 1e-3, separable=True)[0]
    low, high = -_highest(-field, side), _highest(field, side)
    step = (high - low).clamp_min(1e-6)
    # A slope lies half way between the ends of any window and stays; a step becomes steeper.
    gain = 1 + (STEEPNESS - 1) * ((step - 0.1) / 0.2).clamp(0, 1)
    place = (((guided - low) / step - 0.5) * gain + 0.5).clamp(0, 1)
    return torch.lerp(low, high, place)[0]


def _highest(field: Tensor, side: int) -> Tensor:
    """Maximum over a square window, one axis after the other."""
    rows = F.max_pool2d(field, (side, 1), 1, (side // 2, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, side // 2))
