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

CHANNELS = 10
"""Channels of the network's output: tau; for A: attention over the photo, attention within a cell,
share of the cells, brightness, three for the colour; the spreads of tau and of A."""

MIN_TRANSMISSION = 0.05
"""Lower limit of t in the formula: noise and rounding are amplified 20 times at most."""

_GRID = 8  # cells per side
_BRIGHTNESS, _COLOUR = 0.35, 0.12  # limits of the correction of log A
_TAU_START = -3.0  # softplus starts in its flat part: a small output changes tau only a little
_LOCAL_START = -2.0  # an output of zeros gives the cells a share of 12 %
_LARGEST_LOG_WEIGHT = 6.0
_DARKEST_AIRLIGHT = 0.02
_TAU_SPREAD, _AIRLIGHT_SPREAD = 0.3, 0.1  # of an output of zeros: relative to tau, of log A
_LEAST_FACTOR = 0.01  # of these spreads
_LEAST_TAU = 0.02  # a depth of 0 is uncertain, too


@dataclass(frozen=True)
class Scattering:
    """Haze in photos.

    Attributes:
        tau: optical depth, (B, 1, h, w); 0 where there is no haze. A negative depth adds haze.
        airlight: A, the colour of infinitely deep haze, (B, 3, h, w) or (B, 3, 1, 1), in [0, 1].
        spread: standard deviations of tau and of log A, (B, 2, h, w); None if they are not known.
    """

    tau: Tensor
    airlight: Tensor
    spread: Tensor | None = None

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

    def drawn(self, noise: Tensor) -> Scattering:
        """A random haze, with tau and log A distributed normally around those of this haze.

        Where there is no haze, there is none in the draw.

        Args:
            noise: standard normal numbers, (B, 4, n, n). The errors of a prediction are smooth, so
                the deviation of tau (channels 0 and 1) and of A (2 and 3) is a constant plus an
                interpolated grid of n x n, divided by the square root of 2.

        Raises:
            ValueError: the spread is not known.
        """
        if self.spread is None:
            raise ValueError("spread: expected the spread of a predicted haze, got None")
        grid = F.interpolate(noise, self.tau.shape[-2:], mode="bicubic", align_corners=True)
        constant = noise[..., :1, :1]
        deviations = (grid[:, ::2] + constant[:, 1::2]) / math.sqrt(2) * self.spread
        tau = (self.tau + deviations[:, :1]).clamp_min(0).where(self.tau > 0, self.tau)
        airlight = (self.airlight * torch.exp(deviations[:, 1:])).clamp(0, 1)
        return replace(self, tau=tau, airlight=airlight)


def scattering_from_output(output: Tensor, mu: Tensor) -> Scattering:
    """The meaning of a network's output; an output of zeros means no haze.

    The airlight is a mean of the photo's own pixels under an attention map. Its logarithm is
    interpolated between the mean over the photo and means over the cells of a coarse grid, because
    lamps light smoke unevenly, and gets a small correction.

    Args:
        output: (B, 10, h, w), any values; see `CHANNELS`.
        mu: the photo, (B, 3, h, w) in [0, 1].
    """
    start = torch.full((), _TAU_START, dtype=output.dtype, device=output.device)
    tau = F.softplus(output[:, :1] + start) - F.softplus(start)
    attention = output[:, 1:2].flatten(2).softmax(-1)
    whole = (mu.flatten(2) * attention).sum(-1)[..., None, None]
    weights = torch.exp(output[:, 2:3].clamp(-_LARGEST_LOG_WEIGHT, _LARGEST_LOG_WEIGHT))
    cells = _around(_cell_means(torch.cat([mu * weights, weights], 1)))
    local = cells[:, :3] / cells[:, 3:]
    grid = _cell_means(output[:, 3:8])
    share = torch.sigmoid(grid[:, :1] + _LOCAL_START)
    logarithm = torch.lerp(_log(whole).expand_as(local), _log(local), share)
    logarithm = logarithm + _BRIGHTNESS * grid[:, 1:2].tanh() + _COLOUR * grid[:, 2:].tanh()
    smooth = F.interpolate(logarithm, mu.shape[-2:], mode="bicubic", align_corners=False)
    return Scattering(tau, torch.exp(smooth).clamp(0, 1), _spread(output[:, 8:], tau))


def _spread(output: Tensor, tau: Tensor) -> Tensor:
    """Spreads of tau and of log A, (B, 2, h, w), without a gradient for tau."""
    # Softplus has a gradient everywhere: at the start of a training the errors are largest.
    factor = F.softplus(output) / math.log(2) + _LEAST_FACTOR
    of_tau = _TAU_SPREAD * (tau.detach().clamp_min(0) + _LEAST_TAU)
    return factor * torch.cat([of_tau, torch.full_like(of_tau, _AIRLIGHT_SPREAD)], 1)


def _cell_means(x: Tensor) -> Tensor:
    """Means over `_GRID` x `_GRID` cells, (B, C, h, w) -> (B, C, n, n)."""
    if not torch.jit.is_tracing():
        return F.adaptive_avg_pool2d(x, _GRID)
    # By an exporter: sizes are variables of the graph, which has no such pooling.
    return _cell_shares(x.shape[-2]) @ x @ _cell_shares(x.shape[-1]).T


def _cell_shares(length: int | Tensor) -> Tensor:
    """Share of each row (or column) in the mean of each cell, (n, length); cells may overlap."""
    number, place = torch.arange(_GRID)[:, None], torch.arange(length)
    first, end = number * length // _GRID, ((number + 1) * length + _GRID - 1) // _GRID
    return ((place >= first) & (place < end)).float() / (end - first).float()


def _around(cells: Tensor) -> Tensor:
    """Mean of each cell and its eight neighbours, (B, C, n, n)."""
    return F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _log(colour: Tensor) -> Tensor:
    return colour.clamp_min(_DARKEST_AIRLIGHT).log()


def scattering_loss(found: Scattering, transmission: Tensor, airlight: Tensor) -> dict[str, Tensor]:
    """Weighted terms of a loss: differences between predicted and true haze of synthetic photos.

    Args:
        found: the predicted haze of a batch.
        transmission: true t, (B, 1, h, w) in (0, 1].
        airlight: true A, (B, 3, h, w) in [0, 1].

    Returns:
        "transmission": 0.5 times the mean absolute error of t. "airlight": 0.3 times that of A,
        weighted by the true 1 - t. "edges": the mean absolute error of the differences of t between
        neighbours, of rows plus columns. "spread", if the haze has one: 0.01 times the negative
        logarithm of the likelihood of tau and log A, without a gradient for their means.
    """
    difference = found.transmission - transmission
    veil = (found.airlight - airlight) * (1 - transmission)
    terms = {
        "transmission": 0.5 * difference.abs().mean(),
        "airlight": 0.3 * veil.abs().mean(),
        "edges": difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean(),
    }
    if found.spread is None:
        return terms
    return terms | {"spread": 0.01 * _unlikelihood(found, transmission, airlight)}


def _unlikelihood(found: Scattering, transmission: Tensor, airlight: Tensor) -> Tensor:
    """-log of the densities of tau and, in haze, of log A, up to a constant.

    The densities are those of Student's t distribution with four degrees of freedom, whose standard
    deviation is the spread: an outlier has a small gradient.
    """
    colour = (_log(found.airlight.detach()) - _log(airlight)).mean(1, keepdim=True)
    errors = torch.cat([found.tau.detach() + transmission.log(), colour], 1)
    unlikelihood = found.spread.log() + 2.5 * (errors / found.spread).square().div(2).log1p()
    weight = torch.cat([torch.ones_like(transmission), 1 - transmission], 1)
    return (weight * unlikelihood).mean()
