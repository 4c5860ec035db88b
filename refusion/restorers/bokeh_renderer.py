"""Background blur by rendering, without a network: the lens blur of the training pairs, on a photo.

A point that the source lens blurs with a disc of radius r_s, and the target lens with r_t, needs a
disc of radius sqrt(r_t^2 - r_s^2), because variances of blurs add. So the target lens must blur at
least as much as the source lens. See `synthesis.lens_blur`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.images.check import check_image
from refusion.images.samples import is_integer, store, to_float
from refusion.optics.defocus import blur_radius, decode_defocus
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, keep_flat_photos
from refusion.restorers.refusion.conditions import batch_guide, batch_lens
from refusion.synthesis.degradations.bokeh import lens_shape
from refusion.synthesis.lens_blur import CELL, Layers, PhotoPart, render_bokeh
from refusion.tiling.memory import memory_left, with_smaller_tiles
from refusion.tiling.regions import tile_regions

HIGHLIGHTS = 2.5
"""Default light of clipped pixels relative to white: the middle of the training range."""

MAX_RADIUS = 256
"""Largest added radius in pixels that is rendered; tiles with the surroundings of larger discs
would need too much memory."""

_SIDE = 2048  # side of a tile with its surroundings for 'auto': 0.8 GB
_SMALLEST = 768  # side of a tile without them; with a limit of the memory `_LEAST`
_LEAST = 64
_BYTES = 280  # per pixel of a tile with its surroundings; freed blocks are not all reused
_ROWS = 256  # rows whose radii are read at a time


class BokehRenderer:
    """Blurs a photo as a lens with a larger aperture does; see `Restorer` for the contract.

    `Conditions.lens` are source lens, target lens and the largest radius at f/1.8 in pixels of the
    photo. `Conditions.guide` (1, H, W) is the relative defocus, see
    `refusion.optics.defocus.encode_defocus`. Pixels in focus without blurred foreground nearby keep
    their values exactly. `strength` renders a lens between the two.

    Args:
        highlights: light of clipped pixels relative to white, from 1; see `render_bokeh`.
        memory: maximum number of bytes of the whole process; None for no limit. Tiles get smaller
            by it, down to 64 pixels.

    Raises:
        ConfigError: `highlights` is below 1.
    """

    def __init__(self, *, highlights: float = HIGHLIGHTS, memory: int | None = None) -> None:
        if not highlights >= 1:
            raise ConfigError(f"highlights: expected a number from 1, got {highlights}")
        self._highlights, self._memory = highlights, memory

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        return RestorerInfo(
            family=type(self).__name__,
            task="bokeh",
            scale=1,
            views=1,
            needs=frozenset({"lens", "guide"}),
            stochastic=False,
            sampler=None,
            steps=0,
            factor=1,
            tiling="exact",
            device="cpu",
            precision="fp32",
        )

    def restore(
        self,
        lq: Tensor,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        tile: int | Literal["auto"] | None = "auto",
        conditions: Conditions = NO_CONDITIONS,
        strength: float = 1.0,
        callback: Progress | None = None,
    ) -> Tensor:
        """Restore a batch of photos; see `Restorer.restore`.

        Raises:
            ConfigError: also if the target lens blurs less than the source lens, or the discs have
                a radius above `MAX_RADIUS`.
            ImageError: also if the guide is not an image, see `Conditions.guide`.
        """
        check_image("lq", lq, 3, integers=True)
        check_options(len(lq), seed, tile, strength)
        if (steps, sampler) != (None, None):
            raise ConfigError("steps, sampler: BokehRenderer has no process; leave them out")
        lenses = batch_lens(conditions, len(lq), self.info.task).tolist()
        guide = batch_guide(conditions, 1, lq, self.info.task)
        check_image("guide", guide, 1, integers=True)
        dtype = lq.dtype if is_integer(lq) else torch.float32
        result = torch.empty(lq.shape, dtype=dtype, device=lq.device)
        for number, (photo, defocus, lens) in enumerate(zip(lq, guide, lenses, strict=True)):
            source, target, blur = lens
            radius = added_radius(source, target, blur, strength)
            report = None if callback is None else partial(_in_batch, callback, number, len(lq))
            render = partial(
                self._render, photo, defocus[0], radius, target, report, result[number]
            )
            with torch.no_grad():
                with_smaller_tiles(render, self._side(tile, radius, photo))
        return keep_flat_photos(result, lq)

    def _side(self, tile: int | Literal["auto"] | None, radius: float, photo: Tensor) -> int:
        """Side of the tiles."""
        if tile != "auto":
            return max(photo.shape) if tile is None else tile
        side, around = _SIDE, 2 * _halo(math.ceil(radius))
        if self._memory is None:
            return max(_SMALLEST, side - around)
        result = photo.numel() * photo.element_size()  # takes memory when it is written
        left = max(0, memory_left(self._memory, "cpu") - result)
        return max(_LEAST, min(side, math.isqrt(left // _BYTES)) - around)

    def _render(
        self,
        photo: Tensor,
        guide: Tensor,
        radius: float,
        target: float,
        report: Callable[[int, int], None] | None,
        result: Tensor,
        tile: int,
    ) -> None:
        """Render a photo (3, H, W) into `result`, tile by tile."""
        height, width = photo.shape[-2:]
        layers = Layers.of(radius * part for part in _decoded(guide))
        halo = _halo(layers.reach) if len(layers.before) > 1 else layers.reach
        regions = tile_regions(height, width, tile, 1)
        for done, region in enumerate(regions, start=1):
            outer = region.grown(halo, height, width)
            rendered = render_bokeh(
                to_float(outer.cut(photo)).cpu(),
                radius * decode_defocus(outer.cut(guide)).cpu(),
                lens_shape(target),
                self._highlights,
                part=PhotoPart(layers, (height, width), outer.top, outer.left),
            )
            store(region.within(outer).cut(rendered).to(result.device), region.cut(result))
            if report is not None:
                report(done, len(regions))


def added_radius(source: float, target: float, blur: float, strength: float = 1.0) -> float:
    """Largest radius in pixels of the discs that turn the blur of one lens into that of another.

    Args:
        source: number of the lens of the photo, see `refusion.optics.lens`.
        target: number of the lens to imitate.
        blur: largest radius in pixels at f/1.8.
        strength: position between the lenses: 0 is the source, 1 the target.

    Raises:
        ConfigError: the target lens blurs less than the source lens, a lens number is 0, `blur` is
            negative, or the radius is above `MAX_RADIUS`.

    >>> added_radius(160.0, 18.0, 20.0) == math.sqrt(20**2 - 2.25**2)
    True
    """
    before, after = blur_radius(source, blur), blur_radius(target, blur)
    if abs(target) > abs(source):
        raise ConfigError(
            f"lens: the target lens, f/{abs(target) / 10:g}, blurs less than the source lens, "
            f"f/{abs(source) / 10:g}; rendering only adds blur; take a larger "
            "aperture, or the network (--method refusion)"
        )
    after = before + strength * (after - before)  # as `lens_between`
    radius = math.sqrt(max(0.0, after**2 - before**2))
    if not blur >= 0:
        raise ConfigError(f"lens: expected a radius of the largest discs from 0, got {blur:g}")
    if not radius <= MAX_RADIUS:
        raise ConfigError(
            f"lens: expected discs with radii up to {MAX_RADIUS} pixels, got {radius:g}; reduce "
            "the photo, or give a smaller disparity"
        )
    return radius


def _halo(reach: int) -> int:
    """Surroundings of a tile with foreground: the colours behind it come from around a disc."""
    return reach + max(CELL, reach)


def _decoded(guide: Tensor) -> Iterator[Tensor]:
    """The relative defocus of a guide (H, W), in bands of rows."""
    return (decode_defocus(band).cpu() for band in guide.split(_ROWS))


def _in_batch(callback: Progress, number: int, photos: int, done: int, tiles: int) -> None:
    """Report a tile of one photo of a batch."""
    callback("decode", number * tiles + done, photos * tiles)
