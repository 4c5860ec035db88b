"""A photo as haze and clear scene: models with the prediction `scattering` give both.

The process runs on a reduced copy of the photo. The optical depth is enlarged along the edges of
the photo and the formula of `refusion.sde.scattering` runs on the photo's own pixels, band by band.
So there are no tiles, the photo keeps its detail and its bit depth, and a change of the strength
needs no second run of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from refusion.haze_options import ALL_HAZE, HazeOptions, automatic_gain
from refusion.images.frame import WHOLE, Area
from refusion.images.samples import is_integer, store, to_float
from refusion.restorers.contract import structure
from refusion.restorers.framed import common_area
from refusion.restorers.refusion.model import LoadedModel
from refusion.restorers.refusion.reverse_process import Request, run_process
from refusion.sde.scattering import Scattering
from refusion.tiling.guided import guided_filter, guided_upsample_bands
from refusion.tiling.memory import with_smaller_tiles

# Limits of the mean of 1 - t. Below the first one a photo counts as one without haze, and is not
# changed at all. From the second one the predicted haze is removed; between them a part of it.
NO_HAZE, HAZE = 0.02, 0.04

# The optical depth is smoothed between the edges of the photo: side of the windows relative to the
# long side, and smoothness of the guided filter. The network's maps are blurred at edges.
EDGE_WINDOW, EDGE_SMOOTHNESS = 1 / 9, 0.05
GAMMA = 2.2  # of the encoding of photos: one stop multiplies dark values by 2^(1 / 2.2)
_DRAW = 5  # nodes per side of the grid of a random deviation of the haze


@dataclass(frozen=True)
class Decomposition:
    """The haze of photos, which gives their scenes without haze.

    It does not hold the photos, so it is small, for photos of any size.

    Attributes:
        copy: the photos or their reduced copies, (B, 3, h, w) float32 in [0, 1].
        scattering: the haze of the copies.
        area: part of each photo that `copy` shows; a frame around it stays as it is.

    >>> photo = torch.full((1, 3, 2, 2), 0.6)
    >>> haze = Scattering(torch.full((1, 1, 2, 2), math.log(2)), torch.full((1, 3, 1, 1), 0.8))
    >>> Decomposition(photo, haze).clear(photo)[0, :, 0, 0]
    tensor([0.4000, 0.4000, 0.4000])
    """

    copy: Tensor
    scattering: Scattering
    area: Area = WHOLE

    def clear(
        self, photos: Tensor, strength: float = 1.0, options: HazeOptions = ALL_HAZE
    ) -> Tensor:
        """The photos without haze.

        Args:
            photos: the photos (B, 3, H, W), float in [0, 1], or uint8 or uint16 over their full
                range; also copies of them with another size.
            strength: t is replaced by t^strength; 0 gives the photos, negative values add haze.
            options: see `HazeOptions`.

        Returns:
            (B, 3, H, W), float32, not clamped, or the integers of `photos`. Photos without haze are
            returned as they are.
        """
        dtype = photos.dtype if is_integer(photos) else torch.float32
        out = torch.empty(photos.shape, dtype=dtype, device=photos.device)
        if self.area != WHOLE:
            out.copy_(photos)
        parts = (self.area.of(x).split(1) for x in (photos, out))
        for one, photo, result in zip(self._singles(), *parts, strict=True):
            one._clear(photo, strength, options, result)
        return out

    def transmission(self, photos: Tensor) -> Tensor:
        """t at the size of the photos, (B, 1, H, W) float32 in [0, 1].

        Args:
            photos: the photos (B, 3, H, W), float in [0, 1], or uint8 or uint16.
        """
        out = torch.ones(len(photos), 1, *photos.shape[-2:], device=photos.device)
        parts = (self.area.of(x).split(1) for x in (photos, out))
        for one, photo, result in zip(self._singles(), *parts, strict=True):
            for rows, tau, _ in one._bands(photo) if one.has_haze.item() else ():
                torch.exp(-tau.clamp_min(0), out=result[..., rows, :])
        return out

    @property
    def has_haze(self) -> Tensor:
        """Whether each photo has haze, (B,) bool."""
        return self.scattering.tau.flatten(1).any(1)

    @property
    def airlight(self) -> Tensor:
        """Mean colour of the airlight where the haze is, (B, 3) in [0, 1]."""
        amount = (1 - self.scattering.transmission).clamp_min(1e-6).flatten(2)
        airlight = self.scattering.airlight.expand_as(self.copy).flatten(2)
        return ((airlight * amount).sum(-1) / amount.sum(-1)).clamp(0, 1)  # rounding

    def look(self, strength: float = 1.0, options: HazeOptions = ALL_HAZE) -> HazeOptions:
        """The options as numbers, with which other photos get the same look; for one photo only.

        Args:
            strength: see `clear`.
            options: see `HazeOptions`.

        Returns:
            `options` with the airlight of this photo, unless they name one, and the stops of an
            automatic exposure.
        """
        colour = options.airlight or tuple(self.airlight[0].tolist())
        options = replace(options, airlight=colour)
        if options.exposure != "auto":
            return options
        gain = self._with_airlight(colour)._gain(strength, options)
        return replace(options, exposure=GAMMA * math.log2(gain))

    def to(self, device: torch.device) -> Decomposition:
        """The same values on another device.

        Args:
            device: device of the photos that the result is used with.
        """
        haze = self.scattering
        haze = Scattering(haze.tau.to(device), haze.airlight.to(device))
        return replace(self, copy=self.copy.to(device), scattering=haze)

    def _singles(self) -> Iterator[Decomposition]:
        """One for each photo: their haze and their exposure do not depend on each other."""
        haze = self.scattering
        parts = zip(self.copy.split(1), haze.tau.split(1), haze.airlight.split(1), strict=True)
        return (Decomposition(copy, Scattering(tau, colour)) for copy, tau, colour in parts)

    def _clear(self, photo: Tensor, strength: float, options: HazeOptions, out: Tensor) -> None:
        """Write one photo without haze to `out`."""
        one = self._with_airlight(options.airlight)
        farthest = one._farthest(options.distance)
        if strength == 0 or farthest == 0 or not one.has_haze.item():
            out.copy_(photo)
            return
        gain = one._gain(strength, options)
        for rows, tau, airlight in one._bands(photo):
            removed = Scattering(tau.clamp(0, farthest).mul_(strength), airlight)
            scene = removed.clear(to_float(photo[..., rows, :]))
            store(scene if gain == 1 else brighten(scene, gain), out[..., rows, :])

    def _with_airlight(self, airlight: tuple[float, float, float] | None) -> Decomposition:
        if airlight is None:
            return self
        colour = self.copy.new_tensor(airlight).view(1, 3, 1, 1)
        return replace(self, scattering=replace(self.scattering, airlight=colour))

    def _farthest(self, distance: float) -> float:
        """Largest optical depth that is removed from one photo."""
        return math.inf if distance == 1 else distance * self.scattering.tau.max().item()

    def _gain(self, strength: float, options: HazeOptions) -> float:
        """Factor of the dark values of one photo."""
        if options.exposure != "auto":
            return 2 ** (options.exposure / GAMMA)
        farthest = self._farthest(options.distance)
        removed = replace(self.scattering, tau=self.scattering.tau.clamp_max(farthest) * strength)
        scene = removed.clear(self.copy).clamp(0, 1)
        return automatic_gain(scene.mean().item(), 1 - removed.transmission.mean().item())

    def _bands(self, photo: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows of one photo, with tau and A of these rows; tau may be below 0 by overshoot."""
        tau, airlight = self.scattering.tau, self.scattering.airlight
        if photo.shape == self.copy.shape:
            yield slice(None), tau, airlight
            return
        smooth = None if airlight.shape[-2:] == (1, 1) else airlight  # one colour needs no map
        for rows, values in guided_upsample_bands(tau, self.copy, photo, smooth=smooth):
            yield rows, values[:, :1], airlight if smooth is None else values[:, 1:]


def decompose(model: LoadedModel, request: Request, lq: Tensor) -> Decomposition:
    """Run the process and find the haze of photos.

    The last estimate of the haze is the result, for every sampler, or a random draw from its
    distribution (`HazeOptions.draw`). A photo of one colour has no haze, see
    `refusion.restorers.contract.structure`.

    Args:
        model: model with the prediction `scattering`.
        request: arguments of the call.
        lq: photos (B, 3, H, W), float32 in [0, 1] or integers. Of different frames, the part that
            all have counts, because there is one size for all copies.

    Returns:
        The haze, on the device of `lq`.

    Raises:
        FloatingPointError: a value is not finite.
    """
    area = common_area(lq)
    lq = area.of(lq)
    copy = model.reduced_copy(lq)
    image = to_float(lq) if copy is None else copy
    limited = None if model.process_side is None else image
    tile = model.tile_side(model.network, lq, request.tile, limited)
    mu = image.to(model.device)
    _, last = with_smaller_tiles(lambda side: run_process(model, request, mu, side), tile)
    haze = last.scattering
    if not (torch.isfinite(haze.tau).all() and torch.isfinite(haze.airlight).all()):
        raise FloatingPointError("values that are not finite")
    amount = (1 - haze.transmission).flatten(1).mean(1)
    sure = ((amount - NO_HAZE) / (HAZE - NO_HAZE)).clamp(0, 1) * structure(lq).to(amount.device)
    if request.haze.draw and haze.spread is not None:
        haze = haze.drawn(request.plan.noise.initial(mu.new_empty(len(mu), 4, _DRAW, _DRAW)))
    scale = model.config.sampling.depth_scale
    tau = _along_edges(haze.tau, mu) * (scale * sure).view(-1, 1, 1, 1)
    haze = Scattering(tau, haze.airlight)  # without the spread, which is not used any more
    return Decomposition(image, haze, area).to(lq.device)


def _along_edges(tau: Tensor, image: Tensor) -> Tensor:
    """The optical depth with the edges of the image, which has the same size."""
    window = 2 * int(max(tau.shape[-2:]) * EDGE_WINDOW / 2) + 1
    return guided_filter(tau, image, window, EDGE_SMOOTHNESS).clamp_min(0)


def brighten(image: Tensor, gain: float) -> Tensor:
    """A monotone tone curve that keeps black and white: dark values grow by `gain`.

    Args:
        image: any values; those outside [0, 1] are clamped.
        gain: slope at 0, above 0.
    """
    image = image.clamp(0, 1)
    # Equal to gain x / (1 + (gain - 1) x), but exactly 1 for x = 1.
    slope = (gain - 1) * image
    return image + slope * (1 - image) / (1 + slope)
