"""Random numbers that are a function of (seed, keys), independent of earlier random numbers.

Every function has its generator as an argument. No function uses the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor


def keyed_generator(seed: int, *keys: int) -> Generator:
    """Create a CPU generator whose seed is a hash of (seed, keys).

    Different keys give independent streams of random numbers.

    Args:
        seed: integer >= 0.
        keys: integers >= 0, for example an index and an epoch.
    """
    state = np.random.SeedSequence([seed, *keys]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(state[0]) << 31) ^ int(state[1]))


def counter_normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers as a function of (key, position), computed for all keys at once.

    A counter-based generator: the finalizer of splitmix64 (Steele, Lea, Flood 2014) mixes key and
    position to 64 bits, and Box-Muller turns each into two numbers. The bits come from integer
    operations, so a GPU gives the numbers of a CPU up to rounding, without waiting for the CPU.

    Args:
        keys: int64 (B,), for example from `random_keys`; any device.
        shape: shape of the numbers of one key.

    Returns:
        float32 (B, *shape) on the device of the keys, within -6.77..6.77.
    """
    count = math.prod(shape)
    positions = torch.arange((count + 1) // 2, device=keys.device)
    bits = _mix(keys[:, None] ^ _mix(positions * _GOLDEN + _GOLDEN))
    # The upper 32 bits give the radius, the lower 24 the angle.
    radius = (((bits >> 32) & 0xFFFFFFFF).float() + 0.5) * 2.0**-32
    radius = (-2 * radius.clamp(max=1 - 2.0**-24).log()).sqrt()
    angle = (bits & 0xFFFFFF).float() * (2 * math.pi / 2**24)
    numbers = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return numbers[:, :count].reshape(len(keys), *shape)


def random_keys(generators: Sequence[Generator]) -> Tensor:
    """One key per generator for `counter_normal`, int64 (B,) on the CPU."""
    low, high = -(2**63), 2**63 - 1
    return torch.stack([torch.randint(low, high, (), generator=g) for g in generators])


_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # factors of splitmix64


def _mix(bits: Tensor) -> Tensor:
    """The finalizer of splitmix64, a bijection of int64; products wrap around."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Shift to the right that fills with zeros; that of PyTorch repeats the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


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
