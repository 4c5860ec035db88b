from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sde_families import MEAN_REVERTING

from refusion.errors import ConfigError
from refusion.sde import GRIDS, IRSDE, SDES, time_grid

SDE = IRSDE(50)


def log_snr(t):
    return SDE.log_snr(t).item()


@given(start=st.integers(1, 2000), data=st.data())
def test_time_grid_falls_evenly_to_zero(start, data):
    steps = data.draw(st.integers(1, start))
    grid = time_grid(start, steps)
    strides = [a - b for a, b in pairwise(grid)]
    assert (grid[0], grid[-1], len(strides)) == (start, 0, steps)
    assert min(strides) >= 1 and max(strides) - min(strides) <= 1
    exact = [start * (steps - number) / steps for number in range(steps + 1)]
    assert all(abs(time - even) <= 0.5 for time, even in zip(grid, exact, strict=True))


@pytest.mark.parametrize(("start", "steps"), [(100, 0), (100, 101), (0, 1), (5, -1)])
def test_impossible_grids_are_refused(start, steps):
    with pytest.raises(ConfigError, match="steps: expected"):
        time_grid(start, steps)


@pytest.mark.parametrize("name", ["log_snr", "karras"])
@pytest.mark.parametrize(("start", "steps"), [(100, 0), (1, 2), (100, -3)])
def test_impossible_fractional_grids_are_refused(name, start, steps):
    with pytest.raises(ConfigError, match="steps: expected"):
        GRIDS[name](SDE, start, steps)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("start", "steps"), [(100, 1), (100, 2), (100, 37), (60, 60), (2, 2)])
def test_every_grid_falls_from_start_to_zero(kind, name, start, steps):
    times = GRIDS[name](SDES[kind](51), start, steps)
    assert len(times) == steps + 1 and times[0] == start and times[-1] == 0
    assert all(a > b for a, b in pairwise(times))


@pytest.mark.parametrize("start", [100, 40])
def test_log_snr_rises_evenly_and_aims_at_time_one(start):
    levels = [log_snr(t) for t in GRIDS["log_snr"](SDE, start, 10)[:-1]] + [log_snr(1)]
    steps = [b - a for a, b in pairwise(levels)]
    assert steps == pytest.approx([steps[0]] * 10, rel=1e-9)


def test_karras_levels_are_those_of_the_paper():
    """sigma_i = (high^(1/7) + i/n (low^(1/7) - high^(1/7)))^7 for the noise-to-signal ratio."""
    levels = [math.exp(-log_snr(t)) for t in GRIDS["karras"](SDE, 100, 10)[:-1]]
    high, low = math.exp(-log_snr(100)), math.exp(-log_snr(1))
    expected = [
        (high ** (1 / 7) + i / 10 * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(10)
    ]
    assert levels == pytest.approx(expected, rel=1e-9)


def test_even_times_are_whole():
    assert all(isinstance(t, int) for t in GRIDS["time"](SDE, 100, 7))
