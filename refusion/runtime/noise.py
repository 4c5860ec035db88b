"""Random numbers: the fields of `refusion.sde.SeededNoise`, equal to those of PyTorch."""

from __future__ import annotations

import hashlib
import math

import numpy as np

_BLOCK = 16  # numbers that PyTorch makes from as many uniform ones
_BITS = 24  # of a uniform number


def noise_field(seed: int, time: float | None, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that depend on seed and time.

    Args:
        seed: any integer.
        time: of the step; None for the start state.
        shape: of the result.

    Returns:
        float32; equal to the numbers of PyTorch up to rounding, for 16 numbers or more.
    """
    key = "initial" if time is None else f"step {time:g}"
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    return standard_normal(int.from_bytes(digest, "big") >> 1, math.prod(shape)).reshape(shape)


def standard_normal(seed: int, count: int) -> np.ndarray:
    """Normal numbers by the method of Box and Muller, in the order of `torch.randn`.

    Args:
        seed: of the Mersenne twister; PyTorch uses its lower 32 bits.
        count: of numbers.

    Returns:
        (count,) float32.
    """
    twister = np.random.RandomState(seed & 0xFFFFFFFF)
    blocks = -(-count // _BLOCK)
    if count % _BLOCK == 0 or count < _BLOCK:
        return _normal(twister, blocks)[:count]
    # PyTorch draws all uniform numbers, and then new ones for the last 16.
    whole = _uniform(twister, count)[: (blocks - 1) * _BLOCK].reshape(-1, _BLOCK)
    start = _box_muller(whole)[: count - _BLOCK]
    return np.concatenate([start, _normal(twister, 1)])


def _normal(twister: np.random.RandomState, blocks: int) -> np.ndarray:
    return _box_muller(_uniform(twister, blocks * _BLOCK).reshape(-1, _BLOCK))


def _uniform(twister: np.random.RandomState, count: int) -> np.ndarray:
    words = np.frombuffer(twister.bytes(4 * count), "<u4")
    return (words & (2**_BITS - 1)).astype(np.float32) * np.float32(2.0**-_BITS)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Blocks of uniform numbers (n, 16) -> normal numbers (16 n,)."""
    first, second = np.split(uniform, 2, axis=1)
    radius = np.sqrt(-2 * np.log(1 - first))
    angle = np.float32(2 * math.pi) * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()
