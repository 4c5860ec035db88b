"""Haze that one or two networks predict for a photo, and the choice between the two.

A network that learns from rooms in smoke finds little of the light haze in the distance of a
landscape, and one that learns from landscapes takes smoke for something else. The second one
counts where the first one finds hardly any haze, and the second one finds haze that grows upwards
in the photo, as distance does. docs/math.md, "Two predictions of haze".
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusion.sde.scattering import CHANNELS, Scattering, scattering_from_output

# Limits of the mean of 1 - t of the first and of the second prediction, and of the correlation of
# 1 - t of the second one with the height. Between the limits a part of the second one counts.
_FOUND, _DISTANT, _UPWARDS = (0.12, 0.18), (0.09, 0.12), (0.5, 0.7)
_LEAST_VARIANCE = 1e-8  # of 1 - t; a veil that is the same everywhere has no correlation


def haze_from_output(output: Tensor, mu: Tensor) -> Scattering:
    """The haze in photos from the output of one network or of a pair of networks.

    Args:
        output: (B, 10, h, w), see `scattering_from_output`, or (B, 20, h, w) of a pair.
        mu: the photo, (B, 3, h, w) in [0, 1].
    """
    if output.shape[1] == CHANNELS:
        return scattering_from_output(output, mu)
    first, second = (scattering_from_output(part, mu) for part in output.split(CHANNELS, dim=1))
    return joined(first, second, share_of_second(first, second))


def share_of_second(first: Scattering, second: Scattering) -> Tensor:
    """How much the second prediction counts, (B, 1, 1, 1) in [0, 1].

    Args:
        first: haze by the network that is right in most photos.
        second: haze by the network for light haze in the distance.
    """
    veil = 1 - second.transmission
    amount, distant = (1 - first.transmission).mean((1, 2, 3)), veil.mean((1, 2, 3))
    shares = (
        1 - _share(amount, _FOUND),
        _share(distant, _DISTANT),
        _share(correlation_with_height(veil), _UPWARDS),
    )
    return torch.stack(shares).prod(0).view(-1, 1, 1, 1)


def correlation_with_height(values: Tensor) -> Tensor:
    """Pearson's correlation of the values of a map with their height in it, (B,) in [-1, 1].

    Args:
        values: (B, 1, h, w); a map that is the same everywhere has 0.
    """
    height = -torch.ones_like(values).cumsum(-2)
    a, b = (x - x.mean((1, 2, 3), keepdim=True) for x in (values, height))
    covariance, *variances = ((x * y).mean((1, 2, 3)) for x, y in ((a, b), (a, a), (b, b)))
    spread = [variance.clamp_min(_LEAST_VARIANCE).sqrt() for variance in variances]
    return covariance / (spread[0] * spread[1])


def joined(first: Scattering, second: Scattering, share: Tensor) -> Scattering:
    """A haze between two: exactly the first one with a share of 0.

    Args:
        first: haze in photos.
        second: haze in the same photos.
        share: of the second one, for tau, log A and the spreads; (B, 1, 1, 1) in [0, 1].
    """
    ratio = second.airlight.clamp_min(1e-3) / first.airlight.clamp_min(1e-3)
    has_spread = first.spread is not None and second.spread is not None
    return Scattering(
        torch.lerp(first.tau, second.tau, share),
        (first.airlight * ratio**share).clamp_max(1),
        torch.lerp(first.spread, second.spread, share) if has_spread else None,
    )


def _share(values: Tensor, limits: tuple[float, float]) -> Tensor:
    """0 below the first limit, 1 above the second one, linear between them."""
    low, high = limits
    return ((values - low) / (high - low)).clamp(0, 1)
