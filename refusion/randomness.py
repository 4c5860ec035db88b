"""Randomness by address: a draw is a function of (seed, keys), never of what was drawn before.

Every function takes its generator as an argument; nothing here touches the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator


def keyed_generator(seed: int, *keys: int) -> Generator:
    """CPU generator seeded by hashing (seed, keys); different keys give independent streams.

    Args:
        seed: non-negative integer.
        keys: non-negative integers, for instance an index or an epoch.
    """
    state = np.random.SeedSequence([seed, *keys]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(state[0]) << 31) ^ int(state[1]))


def uniform(generator: Generator, low: float, high: float) -> float:
    """One draw from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def bernoulli(generator: Generator, share: float) -> bool:
    """True with probability `share`."""
    return uniform(generator, 0.0, 1.0) < share


def randint(generator: Generator, low: int, high: int) -> int:
    """One draw from low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def categorical(generator: Generator, weights: Sequence[float]) -> int:
    """One of the places 0, 1, ... with chances in proportion to `weights`."""
    chances = torch.tensor(weights, dtype=torch.float64)
    return int(torch.multinomial(chances, 1, generator=generator))


def log_uniform(generator: Generator, low: float, high: float) -> float:
    """One draw from [low, high) with equal chance per octave; 0 counts as a millionth."""
    ends = (math.log(max(value, 1e-6)) for value in (low, high))
    return math.exp(uniform(generator, *ends))
