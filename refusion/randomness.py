"""Random numbers that are a function of (seed, keys), independent of earlier random numbers.

Every function has its generator as an argument. No function uses the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator


def keyed_generator(seed: int, *keys: int) -> Generator:
    """Create a CPU generator whose seed is a hash of (seed, keys).

    Different keys give independent streams of random numbers.

    Args:
        seed: integer >= 0.
        keys: integers >= 0, for example an index and an epoch.
    """
    state = np.random.SeedSequence([seed, *keys]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(state[0]) << 31) ^ int(state[1]))


def uniform(generator: Generator, low: float, high: float) -> float:
    """Random number, uniform in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def bernoulli(generator: Generator, share: float) -> bool:
    """True with probability `share`, 0..1."""
    return uniform(generator, 0.0, 1.0) < share


def randint(generator: Generator, low: int, high: int) -> int:
    """Random integer, uniform in low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def categorical(generator: Generator, weights: Sequence[float]) -> int:
    """Random index of `weights`, with a probability proportional to its weight.

    Args:
        generator: source of randomness.
        weights: numbers >= 0, not all 0.
    """
    probabilities = torch.tensor(weights, dtype=torch.float64)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def log_uniform(generator: Generator, low: float, high: float) -> float:
    """Random number in [low, high) whose logarithm is uniform.

    Args:
        generator: source of randomness.
        low: smallest value; values below 1e-6 are replaced by 1e-6.
        high: largest value, treated in the same way.
    """
    ends = (math.log(max(value, 1e-6)) for value in (low, high))
    return math.exp(uniform(generator, *ends))
