"""Samplers as sums of images, with the coefficients that `refusion export` wrote into the file."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refusion.runtime.noise import noise_field

Predict = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""`(state, mu, time) -> output` of the network."""


def choose_table(process: Mapping[str, Any], level: float | None) -> Mapping[str, Any]:
    """The table of a sampler for the time where the process starts.

    Args:
        process: part 'process' of the plan of the file.
        level: noise level of the photo in [0, 1] units; None for a process that starts at its end.
    """
    if level is None:
        return process["tables"][0]
    return process["tables"][bisect.bisect_left(process["noise"]["limits"], level)]


def run_sampler(
    table: Mapping[str, Any], predict: Predict, mu: np.ndarray, start_std: float, seed: int
) -> np.ndarray:
    """Run the reverse process.

    Args:
        table: times of the steps, and the factors of the images in each step.
        predict: the network.
        mu: degraded image, (C, H, W) float32.
        start_std: standard deviation of the noise in the start state.
        seed: of the noise.

    Returns:
        The restored image, like `mu`.
    """
    state = mu + np.float32(start_std) * noise_field(seed, None, mu.shape) if start_std else mu
    past: list[tuple[np.ndarray, np.ndarray]] = []  # states and outputs, the newest first
    depth = 1 + max(_age(name) for name in table["columns"])
    for time, row in zip(table["times"], table["rows"], strict=True):
        past = [(state, predict(state, mu, time)), *past][:depth]
        state = _sum(table["columns"], row, mu, past, time, seed)
    return state


def _sum(
    columns: Sequence[str],
    row: Sequence[float],
    mu: np.ndarray,
    past: Sequence[tuple[np.ndarray, np.ndarray]],
    time: float,
    seed: int,
) -> np.ndarray:
    total = np.zeros_like(mu)
    for name, factor in zip(columns, row, strict=True):
        if factor == 0:
            continue
        if name == "mu":
            image = mu
        elif name == "noise":
            image = noise_field(seed, time, mu.shape)
        else:
            image = past[_age(name)][name.startswith("output")]
        total += np.float32(factor) * image
    return total


def _age(column: str) -> int:
    """How many calls ago the image of a column was made."""
    return int(column.removeprefix("state").removeprefix("output")) if column[-1].isdigit() else 0
