"""Bokeh transformation: convert the photo of one lens to that of another lens (NTIRE 2023).

A thin lens with f-number N, focused at distance z_f, images a point at distance z as a disc whose
radius is proportional to |1/z_f - 1/z| / N. The number of a lens is that of the challenge: ten
times its f-number, positive for Sony, negative for Canon (18 is Sony f/1.8, -14 is Canon f/1.4).

The disparity of a pair is the blur radius of the farthest background at f/1.8, in pixels of the
processed image. If a photo is shrunk, its disparity shrinks by the same factor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.optics.defocus import blur_radius, defocus_guide
from refusion.randomness import bernoulli, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.cat_eye import OpticalAxis
from refusion.synthesis.checks import check_settings
from refusion.synthesis.lens_blur import render_bokeh
from refusion.synthesis.lens_disc import LensShape
from refusion.synthesis.scenes.depth import DEPTHS
from refusion.synthesis.scenes.fields import photo_coordinates, quantile, smooth_field
from refusion.synthesis.scenes.frame import GRID, PhotoFrame
from refusion.synthesis.scenes.windows import guided_filter, window_max

LENSES = (160.0, 40.0, 28.0, 18.0, -160.0, -40.0, -28.0, -14.0)
"""Lenses of the pairs: Sony f/16, f/4, f/2.8, f/1.8, Canon f/16, f/4, f/2.8, f/1.4."""

SCENES = ("subject", "ground", "room", "layers", "smooth")
SONY = LensShape()
CANON = LensShape(blades=8, rim=0.5)
EDGE = 1.5  # distance in thumbnail pixels over which depth edges are aligned to the crop
STEEPNESS = 5.0  # factor by which the steps of the defocus are narrowed


@dataclass(frozen=True)
class FocusedScene:
    """Two lenses and the depth of a whole photo.

    Attributes:
        lenses: numbers of source and target lens.
        strength: largest blur radius at f/1.8, relative to the long side.
        highlights: linear light of clipped pixels relative to white.
        defocus: (h, w), 0 in focus, 1 at the farthest point, negative in front of the focus.
        cat_eye: shift of the rim of both lenses for a corner of the photo, see `LensShape`.
    """

    lenses: tuple[float, float]
    strength: float
    highlights: float
    defocus: Tensor
    cat_eye: float = 0.0


@dataclass(frozen=True)
class Bokeh:
    """Render an all-in-focus photo with two lenses, with a random depth map.

    A pair (low, high) is the range of a uniform draw; a share is a probability; weights are
    relative frequencies.

    Attributes:
        scene_weights: weights of the depth types: subject in front of a background, ground, room,
            layers, smooth.
        lens_weights: weights of `LENSES`. Two lenses are drawn; the one with less blur is the
            source.
        sharp_share: share of the pairs whose source is Sony f/16, which is nearly sharp.
        swap_share: share of the pairs with exchanged source and target (blurred to sharper).
        identity_share: share of the pairs with equal lenses, where nothing changes.
        blur: blur radius of the farthest background at f/1.8, relative to the long side.
        foreground_share: share of the scenes with blurred objects in front of the plane of focus.
        in_focus: depth of field, relative to the defocus of the farthest background.
        highlights: linear light of clipped pixels relative to white, >= 1.
        cat_eye: shift of the rim of the lens for a corner of the photo, relative to its radius,
            0..1: discs at the border look like the eyes of a cat. (0, 0), the default, draws no
            number, so all other draws are the same with and without it.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
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
    cat_eye: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"highlights": (1.0, 20.0), "blur": (0.0, 0.1)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Render the crop with two lenses.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            generator: source of randomness.
            frame: position of the crop; depth and blur are those of the whole photo.

        Returns:
            As `photograph`; the disparity is in pixels of the crop.
        """
        return self.apply(clean, self.draw_scene(frame.thumbnail, generator), generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> FocusedScene:
        """Draw lenses, blur and depth of a photo, see `SceneDegradation`."""
        lenses = self._draw_lenses(generator)
        strength = uniform(generator, *self.blur)
        highlights = uniform(generator, *self.highlights)
        defocus = self._draw_defocus(thumbnail, generator)
        cat_eye = uniform(generator, *self.cat_eye) if self.cat_eye[1] else 0.0
        return FocusedScene(lenses, strength, highlights, defocus, cat_eye)

    def apply(
        self, clean: Tensor, scene: FocusedScene, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """Render a crop (3, H, W) with both lenses; the result is that of calling the object."""
        scale = _long_side(frame, (clean.shape[-2], clean.shape[-1]))
        defocus = _defocus_of_crop(scene.defocus, clean, frame, scale)
        lens = (*scene.lenses, scene.strength * scale)
        axis = _optical_axis(frame, (clean.shape[-2], clean.shape[-1]), scale)
        return photograph(clean, defocus, lens, scene.highlights, scene.cat_eye, axis)

    def _draw_lenses(self, generator: Generator) -> tuple[float, float]:
        pair = [LENSES[_draw_index(self.lens_weights, generator)] for _ in range(2)]
        is_sharp, is_swapped, is_equal = (
            bernoulli(generator, share)
            for share in (self.sharp_share, self.swap_share, self.identity_share)
        )
        source, target = sorted(pair, key=abs, reverse=True)
        source = LENSES[0] if is_sharp else source
        if is_swapped:
            source, target = target, source
        return source, source if is_equal else target

    def _draw_defocus(self, photo: Tensor, generator: Generator) -> Tensor:
        """Defocus of the photo (h, w): 0 in focus, 1 at the farthest point, negative in front."""
        kind = SCENES[_draw_index(self.scene_weights, generator)]
        tolerance = uniform(generator, *self.in_focus)
        has_foreground = bernoulli(generator, self.foreground_share)
        nearest = -uniform(generator, 0.3, 1.0) if has_foreground else 0.0
        if kind == "subject":
            return _subject_before_background(photo, generator)
        depth = DEPTHS[kind](photo, generator)
        return _focus(depth, uniform(generator, 0.1, 0.6), tolerance).clamp(nearest, 1.0)


def lens_shape(number: float, cat_eye: float = 0.0) -> LensShape:
    """Blur disc of a lens, by its maker.

    Sony lenses have uniform circular discs; Canon lenses have octagons whose rim is 1.5 times as
    bright as the centre. The shapes are approximations, so that the sign of the lens number has an
    effect as in the challenge data.

    Args:
        number: lens number, ten times the f-number, negative for Canon.
        cat_eye: see `LensShape`; the open apertures are those of `LENSES`, f/1.8 and f/1.4.
    """
    shape = CANON if number < 0 else SONY
    if not cat_eye:
        return shape
    widest = min(abs(lens) for lens in LENSES if (lens < 0) == (number < 0))
    return replace(shape, cat_eye=cat_eye, stop=max(1.0, abs(number) / widest))


def photograph(
    clean: Tensor,
    defocus: Tensor,
    lens: tuple[float, float, float],
    highlights: float,
    cat_eye: float = 0.0,
    axis: OpticalAxis | None = None,
) -> dict[str, Tensor]:
    """Render a scene with two lenses.

    Args:
        clean: (3, H, W) float32 in [0, 1], in focus everywhere.
        defocus: (H, W) in [-1, 1], blur radii relative to the largest; negative in front of the
            plane of focus.
        lens: numbers of source and target lens, and the largest radius at f/1.8 in pixels.
        highlights: see `render_bokeh`.
        cat_eye: see `lens_shape`.
        axis: see `render_bokeh`.

    Returns:
        "lq", the source lens, and "gt", the target lens, (3, H, W), 8-bit levels; "lens" (3,)
        float32; "guide" (2, H, W), see `defocus_guide`.
    """
    lq, gt = (
        quantise(
            render_bokeh(
                clean,
                defocus * blur_radius(number, lens[2]),
                lens_shape(number, cat_eye),
                highlights,
                axis,
            )
        )
        for number in lens[:2]
    )
    guide = defocus_guide(defocus, lens)
    return {"lq": lq, "gt": gt, "lens": torch.tensor(lens), "guide": guide}


def _draw_index(weights: tuple[float, ...], generator: Generator) -> int:
    return int(
        torch.multinomial(torch.tensor(weights, dtype=torch.float32), 1, generator=generator)
    )


def _focus(depth: Tensor, nearer_share: float, tolerance: float) -> Tensor:
    """Defocus of a thin lens; `nearer_share` of the photo is in front of the plane of focus.

    The result is 0 within the tolerance and 1 at depth 1, the farthest point.
    """
    distance = quantile(depth.flatten(), nearer_share).clamp(max=0.95)
    defocus = (1 / distance - 1 / depth) / (1 / distance - 1)
    return defocus.sign() * (defocus.abs() - tolerance).clamp_min(0) / (1 - tolerance)


def _subject_before_background(photo: Tensor, generator: Generator) -> Tensor:
    """Defocus of a subject in focus in front of a background with little variation in depth."""
    size = (photo.shape[-2], photo.shape[-1])
    subject = _subject(photo, generator)
    nearest = uniform(generator, 0.4, 1.0)
    background = torch.sigmoid(1.5 * smooth_field(size, generator, modes=2))
    background = background / background.amax()
    return (1 - subject) * (nearest + (1 - nearest) * background)


def _subject(photo: Tensor, generator: Generator) -> Tensor:
    """Region of similar colour around a random point, mostly in the lower half; (h, w) in [0, 1].

    Its border is sharp where colours change, and gradual elsewhere.
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
    border = quantile(score.flatten(), 1 - uniform(generator, 0.12, 0.5))
    return torch.sigmoid(uniform(generator, 2.0, 6.0) * (score - border))


def _long_side(frame: PhotoFrame, size: tuple[int, int]) -> float:
    """Long side of the whole photo at the resolution of the crop, in pixels."""
    rows, columns = frame.coordinates(size)
    across = torch.hypot(rows[0, -1] - rows[0, 0], columns[0, -1] - columns[0, 0])
    down = torch.hypot(rows[-1, 0] - rows[0, 0], columns[-1, 0] - columns[0, 0])
    return (size[0] + size[1] - 2) / max(float(across + down), 1e-6)


def _optical_axis(frame: PhotoFrame, size: tuple[int, int], long_side: float) -> OpticalAxis:
    """The centre of the whole photo, in pixels of the crop.

    The position in the photo is a linear function of the pixel of the crop.
    """
    rows, columns = frame.coordinates(size)
    places = torch.stack([rows, columns]).double()
    height, width = frame.thumbnail.shape[-2:]
    centre = torch.tensor([height, width], dtype=torch.float64) / (2 * max(height, width))
    down, across = (side - 1 for side in size)
    if not down or not across:  # one row or column: the axis is not known, and hardly matters
        return OpticalAxis.centre(*size)
    steps = torch.stack(
        [(places[:, -1, 0] - places[:, 0, 0]) / down, (places[:, 0, -1] - places[:, 0, 0]) / across]
    )
    row, column = torch.linalg.solve(steps.T, centre - places[:, 0, 0]).tolist()
    return OpticalAxis(row, column, long_side * float(centre.norm()))


def _defocus_of_crop(scene: Tensor, crop: Tensor, frame: PhotoFrame, long_side: float) -> Tensor:
    """Defocus (h, w) of the crop, with steps aligned to the edges of the crop."""
    size = (crop.shape[-2], crop.shape[-1])
    field = frame.crop(scene[None], size)
    reach = min(max(1, round(EDGE * long_side / GRID)), (min(size) - 1) // 2)
    side = 2 * reach + 1
    guided = guided_filter(crop.mean(0), field[0], side, 1e-3)[None]
    high, low = window_max(torch.cat([field, -field]), side).split(1)
    low = -low
    step = (high - low).clamp_min(1e-6)
    # In a smooth slope, the value is the middle of its window and is unchanged; steps get steeper.
    gain = 1 + (STEEPNESS - 1) * ((step - 0.1) / 0.2).clamp(0, 1)
    place = (((guided - low) / step - 0.5) * gain + 0.5).clamp(0, 1)
    return torch.lerp(low, high, place)[0]
