"""A photo as haze and clear scene: models with the prediction `scattering` give both.

The process runs on a reduced copy of the photo. The optical depth is enlarged along the edges of
the photo and the formula of `refusion.sde.scattering` runs on the photo's own pixels, band by band.
So there are no tiles, the photo keeps its detail and its bit depth, and a change of the strength
needs no second run of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from refusion.images.samples import store, to_float
from refusion.restorers.base import ALL_HAZE, HazeOptions
from refusion.restorers.refusion.model import LoadedModel
from refusion.restorers.refusion.reverse_process import Request, run_process
from refusion.sde.scattering import Scattering
from refusion.tiling.guided import guided_upsample_bands
from refusion.tiling.memory import with_smaller_tiles

# Mean of 1 - t. Below the first value a photo is not told apart from one without haze, and is not
# changed at all; from the second one the predicted haze is removed.
NO_HAZE, HAZE = 0.02, 0.04


@dataclass(frozen=True)
class Decomposition:
    """Photos, their haze and, by `clear`, their scenes without haze.

    Attributes:
        copy: the photos or their reduced copies, (B, 3, h, w) float32 in [0, 1].
        scattering: the haze of the copies.
    """

    copy: Tensor
    scattering: Scattering

    def clear(
        self, photos: Tensor, strength: float = 1.0, options: HazeOptions = ALL_HAZE
    ) -> Tensor:
        """The photos without haze.

        Args:
            photos: the photos (B, 3, H, W), float in [0, 1], or uint8 or uint16.
            strength: t is replaced by t^strength; 0 gives the photos, negative values add haze.
            options: see `HazeOptions`.

        Returns:
            (B, 3, H, W), float32, not clamped, or the integers of `photos`.
        """
        haze = self._with_airlight(options.airlight)
        tau = haze.tau
        farthest = options.distance * tau.flatten(1).amax(1).view(-1, 1, 1, 1)
        gain = self._gain(haze.scaled(strength), options.exposure)
        out = torch.empty(photos.shape, dtype=photos.dtype, device=photos.device)
        for rows, tau, airlight in self._bands(photos, haze):
            removed = torch.minimum(tau, farthest) if options.distance < 1 else tau
            scene = Scattering(removed * strength, airlight).clear(to_float(photos[..., rows, :]))
            store(scene if gain is None else brighten(scene, gain), out[..., rows, :])
        return out

    def transmission(self, photos: Tensor) -> Tensor:
        """t at the size of the photos, (B, 1, H, W) float32 in [0, 1].

        Args:
            photos: the photos (B, 3, H, W), float in [0, 1], or uint8 or uint16.
        """
        out = torch.empty(len(photos), 1, *photos.shape[-2:], device=photos.device)
        for rows, tau, _ in self._bands(photos, self.scattering):
            out[..., rows, :] = torch.exp(-tau)
        return out

    @property
    def airlight(self) -> Tensor:
        """Mean colour of the airlight where the haze is, (B, 3) in [0, 1.2]."""
        amount = (1 - self.scattering.transmission).clamp_min(1e-6).flatten(2)
        airlight = self.scattering.airlight.expand_as(self.copy).flatten(2)
        return (airlight * amount).sum(-1) / amount.sum(-1)

    def _with_airlight(self, airlight: tuple[float, float, float] | None) -> Scattering:
        if airlight is None:
            return self.scattering
        colour = self.copy.new_tensor(airlight).view(1, 3, 1, 1)
        return replace(self.scattering, airlight=colour.expand_as(self.copy))

    def _gain(self, haze: Scattering, exposure: float | str) -> Tensor | None:
        """Factor of dark values for every photo, (B, 1, 1, 1); None for no change."""
        if exposure == 0:
            return None
        has_haze = haze.tau.flatten(1).any(1).view(-1, 1, 1, 1)
        if exposure == "auto":
            before = self.copy.flatten(1).mean(1).view(-1, 1, 1, 1)
            after = haze.clear(self.copy).clamp(0, 1).flatten(1).mean(1).view(-1, 1, 1, 1)
            gain = (before / after.clamp_min(1e-3)).sqrt().clamp(1.0, 2.0)
        else:
            gain = torch.full_like(self.copy[:, :1, :1, :1], 2 ** (exposure / 2.2))
        return torch.where(has_haze, gain, 1.0)

    def _bands(self, photos: Tensor, haze: Scattering) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows of the photos, with tau (B, 1, rows, W) and A (B, 3, rows, W) of these rows."""
        airlight = haze.airlight.expand_as(self.copy)
        if photos.shape == self.copy.shape:
            yield slice(None), haze.tau, airlight
            return
        bands = guided_upsample_bands(haze.tau, self.copy, photos, smooth=airlight)
        has_haze = haze.tau.flatten(1).any(1).view(-1, 1, 1, 1)
        for rows, values in bands:
            yield rows, values[:, :1].clamp_min(0) * has_haze, values[:, 1:]


def decompose(model: LoadedModel, request: Request, lq: Tensor) -> Decomposition:
    """Run the process and split photos into haze and scene.

    The last estimate of the haze is the result, for every sampler.

    Args:
        model: model with the prediction `scattering`.
        request: arguments of the call.
        lq: photos (B, 3, H, W), float32 in [0, 1] or integers.

    Raises:
        FloatingPointError: a value is not finite.
    """
    copy = model.reduced_copy(lq)
    image = to_float(lq) if copy is None else copy
    limited = None if model.process_side is None else image
    tile = model.tile_side(model.network, lq, request.tile, limited)
    mu = image.to(model.device)
    _, last = with_smaller_tiles(lambda side: run_process(model, request, mu, side), tile)
    haze = last.scattering
    if not (torch.isfinite(haze.tau).all() and torch.isfinite(haze.airlight).all()):
        raise FloatingPointError("values that are not finite")
    amount = (1 - haze.transmission).flatten(1).mean(1).view(-1, 1, 1, 1)
    sure = ((amount - NO_HAZE) / (HAZE - NO_HAZE)).clamp(0, 1)
    haze = Scattering((haze.tau * sure).to(lq.device), haze.airlight.to(lq.device))
    return Decomposition(image.to(lq.device), haze)


def brighten(image: Tensor, gain: Tensor | float) -> Tensor:
    """A monotone tone curve that keeps black and white: dark values grow by `gain`.

    Args:
        image: any values; those outside [0, 1] are clamped.
        gain: slope at 0, above 0.
    """
    image = image.clamp(0, 1)
    return gain * image / (1 + (gain - 1) * image)
