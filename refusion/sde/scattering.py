"""The scattering model: a network predicts the haze, and the clean image follows from the formula.

A photo mu in haze is mu = x0 t + A (1 - t), with the transmission t = exp(-tau), the optical depth
tau and the airlight A (Koschmieder 1924; Narasimhan and Nayar 2002). A network with the prediction
`scattering` does not predict an image but tau and A; x0 = (mu - A) / t + A. Where it predicts
tau = 0, x0 is the photo itself. tau and A are smoother than the photo, so a network can predict
them for a small copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 8
"""Channels of the network's output: tau; for A: attention over the photo, attention within a cell,
share of the cells, brightness, three for the colour."""

MIN_TRANSMISSION = 0.05
"""Lower limit of t in the formula: noise and rounding are amplified 20 times at most."""

_GRID = 8  # cells per side
_BRIGHTNESS, _COLOUR = 0.35, 0.12  # limits of the correction of log A
_TAU_START = -3.0  # softplus starts in its flat part: a small output changes tau only a little
_LOCAL_START = -2.0  # an output of zeros gives the cells a share of 12 %
_LARGEST_LOG_WEIGHT = 6.0
_DARKEST_AIRLIGHT = 0.02


@dataclass(frozen=True)
class Scattering:
    """Haze in photos.

    Attributes:
        tau: optical depth, (B, 1, h, w); 0 where there is no haze. A negative depth adds haze.
        airlight: A, the colour of infinitely deep haze, (B, 3, h, w) or (B, 3, 1, 1), in [0, 1].
    """

    tau: Tensor
    airlight: Tensor

    @property
    def transmission(self) -> Tensor:
        """t = exp(-tau), (B, 1, h, w)."""
        return torch.exp(-self.tau)

    def clear(self, photo: Tensor) -> Tensor:
        """The photo without the haze, x0 = (photo - A) / t + A.

        Args:
            photo: (B, 3, h, w) in [0, 1].

        Returns:
            (B, 3, h, w), not clamped. Exactly `photo` where tau is 0.
        """
        # photo + (photo - A)(1 / t - 1), which is exact where tau = 0.
        limit = -math.log(MIN_TRANSMISSION)
        return torch.addcmul(photo, photo - self.airlight, torch.expm1(self.tau.clamp_max(limit)))

    def scaled(self, strength: float) -> Scattering:
        """The haze with t^strength in place of t.

        Args:
            strength: factor of the optical depth; 0 gives no haze, and with a negative value
                `clear` adds haze.
        """
        return replace(self, tau=self.tau * strength)


def scattering_from_output(output: Tensor, mu: Tensor) -> Scattering:
    """The meaning of a network's output; an output of zeros means no haze.

    The airlight is a mean of the photo's own pixels under an attention map. Its logarithm is
    interpolated between the mean over the photo and means over the cells of a coarse grid, because
    lamps light smoke unevenly, and gets a small correction.

    Args:
        output: (B, 8, h, w), any values; see `CHANNELS`.
        mu: the photo, (B, 3, h, w) in [0, 1].
    """
    start = torch.full((), _TAU_START, dtype=output.dtype, device=output.device)
    tau = F.softplus(output[:, :1] + start) - F.softplus(start)
    attention = output[:, 1:2].flatten(2).softmax(-1)
    whole = (mu.flatten(2) * attention).sum(-1)[..., None, None]
    weights = torch.exp(output[:, 2:3].clamp(-_LARGEST_LOG_WEIGHT, _LARGEST_LOG_WEIGHT))
    cells = _around(F.adaptive_avg_pool2d(torch.cat([mu * weights, weights], 1), _GRID))
    local = cells[:, :3] / cells[:, 3:]
    grid = F.adaptive_avg_pool2d(output[:, 3:CHANNELS], _GRID)
    share = torch.sigmoid(grid[:, :1] + _LOCAL_START)
    logarithm = torch.lerp(_log(whole).expand_as(local), _log(local), share)
    logarithm = logarithm + _BRIGHTNESS * grid[:, 1:2].tanh() + _COLOUR * grid[:, 2:].tanh()
    smooth = F.interpolate(logarithm, mu.shape[-2:], mode="bicubic", align_corners=False)
    return Scattering(tau, torch.exp(smooth).clamp(0, 1))


def _around(cells: Tensor) -> Tensor:
    """Mean of each cell and its eight neighbours, (B, C, n, n)."""
    return F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _log(colour: Tensor) -> Tensor:
    return colour.clamp_min(_DARKEST_AIRLIGHT).log()


def scattering_loss(found: Scattering, transmission: Tensor, airlight: Tensor) -> dict[str, Tensor]:
    """Weighted terms of a loss: differences between predicted and true haze of synthetic photos.

    Args:
        found: the predicted haze of a batch.
        transmission: true t, (B, 1, h, w) in [0, 1].
        airlight: true A, (B, 3, h, w) in [0, 1].

    Returns:
        "transmission": 0.5 times the mean absolute error of t. "airlight": 0.3 times that of A,
        weighted by the true 1 - t. "edges": the mean absolute error of the differences of t between
        neighbours, of rows plus columns.
    """
    difference = found.transmission - transmission
    veil = (found.airlight - airlight) * (1 - transmission)
    return {
        "transmission": 0.5 * difference.abs().mean(),
        "airlight": 0.3 * veil.abs().mean(),
        "edges": difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean(),
    }
