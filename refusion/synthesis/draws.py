"""Random noise of images: from PyTorch's generators, or from a table in half of the time.

A table has the quantiles of the normal distribution for all 16-bit numbers, so a normal number
costs 16 random bits and one look-up. Poisson numbers are rounded quantiles by the expansion of
Cornish and Fisher (1938); those of small means are drawn by inversion.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

BITS = 16
SMALL_MEAN = 6.0  # Poisson numbers of smaller means are drawn by inversion


class TableGenerator(Generator):
    """A generator whose `normal` and `poisson` numbers come from a table.

    All other random numbers are those of `Generator`. The noise is a function of the seed and of
    the number of earlier calls of `normal` and `poisson`.
    """

    @classmethod
    def of(cls, generator: Generator) -> TableGenerator:
        """A table generator with the seed of another generator, at the start of its numbers."""
        return cls().manual_seed(generator.initial_seed())

    def bits(self, count: int) -> Tensor:
        """Random integers in 0..65535, (count,) int32."""
        if not hasattr(self, "_source"):
            self._source = np.random.SFC64(self.initial_seed())
        words = self._source.random_raw(math.ceil(count / 4))
        return torch.from_numpy(words.view(np.uint16)[:count].astype(np.int32))


def normal(shape: Sequence[int], generator: Generator) -> Tensor:
    """Standard normal numbers.

    Args:
        shape: shape of the result.
        generator: source of randomness; see `TableGenerator`, whose numbers are within -4.33..4.33.

    Returns:
        `shape`, float32.
    """
    if not isinstance(generator, TableGenerator):
        return torch.randn(tuple(shape), generator=generator)
    bits = generator.bits(math.prod(shape))
    return _normal_quantiles().index_select(0, bits).view(tuple(shape))


def poisson(means: Tensor, generator: Generator) -> Tensor:
    """Poisson numbers.

    Args:
        means: any shape, >= 0.
        generator: source of randomness. The probabilities of numbers from a `TableGenerator` have
            errors whose sum is below 0.008 for each mean; the variance is exact to 0.1 %.

    Returns:
        The shape of `means`, whole numbers as float32.
    """
    if not isinstance(generator, TableGenerator):
        return torch.poisson(means, generator)
    bits = generator.bits(means.numel())
    quantile = _normal_quantiles().index_select(0, bits).view(means.shape)
    # 1/18 is the variance of the quadratic term, 1/12 that of rounding.
    spread = (means - 5 / 36).clamp_min_(0).sqrt_()
    counts = (quantile * quantile).sub_(1).div_(6).add_(means).addcmul_(spread, quantile)
    counts = counts.round_().clamp_min_(0)
    small = (means.flatten() < SMALL_MEAN).nonzero()[:, 0]
    if len(small):
        share = bits.index_select(0, small).float().add_(0.5).div_(2**BITS)
        flat = means.flatten().index_select(0, small)
        counts.view(-1).index_copy_(0, small, _inverted(flat, share))
    return counts


def _inverted(means: Tensor, shares: Tensor) -> Tensor:
    """Poisson quantiles: for each mean the number of k whose cumulative probability is lower."""
    probability = torch.exp(-means)
    cumulative, counts, number = probability.clone(), torch.zeros_like(means), 0
    while bool((above := shares > cumulative).any()):
        counts.add_(above)
        number += 1
        if number > 10 * SMALL_MEAN:  # rounding keeps the cumulative probability below a share
            break
        probability.mul_(means).div_(number)
        cumulative.add_(probability)
    return counts


@functools.cache
def _normal_quantiles() -> Tensor:
    """Quantiles at the middle of 65536 equal shares, scaled to a variance of 1."""
    shares = (torch.arange(2**BITS, dtype=torch.float64) + 0.5) / 2**BITS
    quantiles = torch.special.ndtri(shares)
    return (quantiles / quantiles.square().mean().sqrt()).float()
