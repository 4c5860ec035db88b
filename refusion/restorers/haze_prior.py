"""The base class of restorers that remove haze by a prior on clear photos, without a network.

A prior gives a map of the haze. The colour of the pixels where the map is largest is the airlight
A. A guided filter (He, Sun & Tang, "Guided Image Filtering", ECCV 2010) aligns the map with the
edges of the photo and gives the transmission t; then J = (I - A) / t + A.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.devices.precision import choose_device
from refusion.errors import ConfigError
from refusion.images.check import check_image
from refusion.images.samples import store, to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, keep_flat_photos
from refusion.tiling.memory import with_smaller_tiles
from refusion.tiling.regions import tile_regions

WINDOW = 15  # side in pixels of the windows whose minimum is taken, as in both papers
# Guided filter: radius in pixels and regularization, as in its paper for haze removal.
RADIUS, EPSILON = 60, 1e-3
_HALO = 2 * RADIUS + WINDOW // 2  # pixels around a tile that its result depends on
_TILE = 1536  # side of the tiles for 'auto': 0.4 GB
_SORTED = 2**23  # pixels among which the largest are looked for at a time, 0.2 GB


class HazePrior(ABC):
    """Removes haze by a prior; see `Restorer` for the contract.

    A subclass defines the prior by `haze`, `coarse` and `transmission`. Tiles have a halo of all
    pixels that their result depends on, so they do not change it.

    Args:
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.

    Raises:
        ConfigError: device unknown or not available.
    """

    def __init__(self, *, device: str | torch.device = "cpu") -> None:
        self._device = choose_device(device)

    @abstractmethod
    def haze(self, image: Tensor) -> Tensor:
        """Map (B, 1, H, W) of photos (B, 3, H, W) in [0, 1]; it is largest at the airlight."""

    @abstractmethod
    def coarse(self, image: Tensor, airlight: Tensor) -> Tensor:
        """Map (B, 1, H, W) that is aligned with the photos; airlight (B, 3, 1, 1)."""

    @abstractmethod
    def transmission(self, aligned: Tensor) -> Tensor:
        """Transmission in (0, 1] from the aligned map, both (B, 1, H, W)."""

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        return RestorerInfo(
            family=type(self).__name__,
            task="dehaze",
            scale=1,
            views=1,
            needs=frozenset(),
            stochastic=False,
            sampler=None,
            steps=0,
            factor=1,
            tiling="exact",
            device=str(self._device),
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
        """Restore a batch of photos; see `Restorer.restore`."""
        check_image("lq", lq, 3, integers=True)
        check_options(len(lq), seed, tile, strength)
        if (steps, sampler) != (None, None):
            raise ConfigError(
                f"steps, sampler: {self.info.family} has no diffusion process; leave them out"
            )
        side = max(lq.shape) if tile is None else _TILE if tile == "auto" else tile
        with torch.no_grad():
            return with_smaller_tiles(partial(self._restore, lq, strength, callback), side)

    def _restore(self, lq: Tensor, strength: float, callback: Progress | None, tile: int) -> Tensor:
        height, width = lq.shape[-2:]
        regions = tile_regions(height, width, tile, 1)
        airlight = self._airlight(lq, tile)
        result = torch.empty(
            lq.shape, dtype=lq.dtype if not lq.is_floating_point() else torch.float32
        ).to(lq.device)
        for number, region in enumerate(regions, start=1):
            outer = region.grown(_HALO, height, width)
            photo = to_float(outer.cut(lq)).to(self._device)
            aligned = guided_filter(photo.mean(dim=1, keepdim=True), self.coarse(photo, airlight))
            own = region.within(outer)
            photo, t = own.cut(photo), self.transmission(own.cut(aligned))
            clear = ((photo - airlight) / t + airlight).clamp_(0, 1)
            store(torch.lerp(photo, clear, strength).to(lq.device), region.cut(result))
            if callback is not None:
                callback("decode", number, len(regions))
        return keep_flat_photos(result, lq)

    def _airlight(self, lq: Tensor, tile: int) -> Tensor:
        """Colour of the airlight, (B, 3, 1, 1), on the device of this restorer."""
        height, width = lq.shape[-2:]
        haze = torch.empty(len(lq), 1, height, width)
        for region in tile_regions(height, width, tile, 1):
            outer = region.grown(WINDOW // 2, height, width)
            part = self.haze(to_float(outer.cut(lq)).to(self._device))
            region.cut(haze).copy_(region.within(outer).cut(part))
        return atmospheric_light(lq, haze.to(lq.device)).to(self._device)


def atmospheric_light(image: Tensor, haze: Tensor) -> Tensor:
    """Colour of the atmospheric light, (B, 3, 1, 1) float32 in [1 / 255, 1].

    It is the colour of the pixel with the highest intensity among the 0.1 % of the pixels where the
    map of the haze is largest.

    Args:
        image: photos (B, 3, H, W), float in [0, 1], or uint8 or uint16 over their full range.
        haze: map (B, 1, H, W).
    """
    flat, count = haze.flatten(2), max(1, haze.shape[-2] * haze.shape[-1] // 1000)
    largest, found = [], []
    for start in range(0, flat.shape[2], _SORTED):
        part = flat[..., start : start + _SORTED]
        values, indices = part.topk(min(count, part.shape[2]), dim=2)
        largest.append(values)
        found.append(indices + start)
    indices = found[0]
    if len(found) > 1:
        indices = torch.cat(found, 2).gather(2, torch.cat(largest, 2).topk(count, dim=2).indices)
    candidates = to_float(_gather(image.flatten(2), indices))
    best = candidates.sum(dim=1, keepdim=True).argmax(dim=2, keepdim=True)
    light = candidates.gather(2, best.expand(-1, 3, -1))
    return light.unsqueeze(-1).clamp(min=1 / 255)


def _gather(pixels: Tensor, indices: Tensor) -> Tensor:
    """Pixels (B, 3, N) at indices (B, 1, n); `Tensor.gather` does not support uint16."""
    rows = zip(pixels, indices[:, 0], strict=True)
    return torch.stack([photo[:, index] for photo, index in rows])


def guided_filter(guide: Tensor, value: Tensor) -> Tensor:
    """Smooth `value` and keep the edges of `guide`; both (B, 1, H, W), the result float32.

    As the papers of the priors have it, and not as `tiling.guided`: windows end at the border, and
    `EPSILON` is absolute. Sums of whole rows make the time independent of the large windows.
    """
    mean_guide, mean_value = box_mean(guide), box_mean(value)
    covariance = box_mean(guide * value) - mean_guide * mean_value
    variance = box_mean(guide * guide) - mean_guide.square()
    slope = covariance / (variance + EPSILON)
    offset = mean_value - slope * mean_guide
    return box_mean(slope) * guide + box_mean(offset)


def box_mean(image: Tensor) -> Tensor:
    """Mean of the pixels within RADIUS in each direction; pixels outside the image do not count."""
    for dim in (-2, -1):
        size = image.shape[dim]
        sums = F.pad(image.double().movedim(dim, -1).cumsum(-1), (1, 0))
        centers = torch.arange(size, device=image.device)
        low, high = (centers - RADIUS).clamp(min=0), (centers + RADIUS + 1).clamp(max=size)
        image = ((sums[..., high] - sums[..., low]) / (high - low)).movedim(-1, dim)
    return image.float()
