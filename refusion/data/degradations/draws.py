"""Random choices that several degradations make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from refusion.data.camera import quantise
from refusion.data.stream import uniform


def happens(generator: Generator, share: float) -> bool:
    """True with probability `share`."""
    return uniform(generator, 0.0, 1.0) < share


def draw_integer(generator: Generator, low: int, high: int) -> int:
    """One draw from low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_weighted(generator: Generator, weights: Sequence[float]) -> int:
    """One of the places 0, 1, ... with chances in proportion to `weights`."""
    chances = torch.tensor(weights, dtype=torch.float64)
    return int(torch.multinomial(chances, 1, generator=generator))


def draw_octave(generator: Generator, low: float, high: float) -> float:
    """One draw from [low, high) with equal chance per octave; 0 counts as a millionth."""
    ends = (math.log(max(value, 1e-6)) for value in (low, high))
    return math.exp(uniform(generator, *ends))


def store(image: Tensor, generator: Generator, share: float, quality: tuple[int, int]) -> Tensor:
    """The image as a file keeps it: 8 bits, in a share of the cases through a JPEG.

    Args:
        image: (3, H, W) in [0, 1].
        generator: source of randomness; two draws whatever comes.
        share: probability of the JPEG.
        quality: its lowest and highest quality, 1..100.
    """
    drawn = draw_integer(generator, *quality)
    return quantise(image, drawn if happens(generator, share) else None)
