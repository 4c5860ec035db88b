"""Tables of coefficients: a loop of multiply-adds gives what the sampler gives."""

import bisect

import pytest
import torch

from refusion.export.tables import noise_limits, step_table, table_for_starts
from refusion.sde import GOUB, IRSDE, DenoisingSDE, SeededNoise, UniDB, estimate, find_sampler

STEPS = 5
SAMPLERS = ["posterior", "euler", "mean", "ode-data-1", "sde-data-2", "ode-noise-3@karras",
            "eta0.5-data-3@log_snr"]  # fmt: skip
SDES = [IRSDE(50), GOUB(50), UniDB(50), DenoisingSDE(70)]


def images(count):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, 6, 7, generator=generator, dtype=torch.float64) for _ in range(count)]


def by_table(table, outputs, mu, state, noise):
    past = []
    for time, row, output in zip(table.times, table.rows, outputs, strict=True):
        past = [(state, output), *past]
        named = {"mu": mu, "noise": noise.step(time, mu)}
        for age, pair in enumerate(past):
            named |= {f"state{age}": pair[0], f"output{age}": pair[1]}
        pairs = zip(table.columns, row, strict=True)
        state = sum(factor * named[name] for name, factor in pairs if factor)
    return state


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction", ["noise", "x0_residual", "velocity", "score"])
def test_table_gives_the_state_of_the_sampler(sde, name, prediction):
    sampler, noise = find_sampler(name), SeededNoise(3)
    mu, *outputs = images(STEPS + 1)
    start = sde.initial_state(mu, noise.initial(mu))
    queue = iter(outputs)

    def denoise(xt, mu, t):
        return estimate(sde, prediction, next(queue), xt, mu, t)

    expected = sampler(sde, denoise, start, mu, steps=STEPS, noise=noise)
    table = step_table(sde, prediction, sampler, STEPS)
    found = by_table(table, outputs, mu, start, noise)
    assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_one_step_of_a_prediction_of_x0_is_exact():
    table = step_table(IRSDE(50), "x0_residual", find_sampler("posterior"), 1)
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {"mu": 1.0, "output0": 1.0}
    assert table.times == (100,)


def test_noise_limits_give_the_start_of_the_process():
    sde = DenoisingSDE(80, 200, "cosine", 0.5)
    limits = noise_limits(sde)
    assert limits == sorted(limits) and len(limits) == sde.T - 1
    for level in torch.linspace(0, sde.lam, 301, dtype=torch.float64).tolist():
        assert bisect.bisect_left(limits, level) + 1 == sde.optimal_timestep(level)


def test_a_start_near_the_end_allows_few_steps():
    sde = DenoisingSDE(80, 50)
    tables = table_for_starts(sde, "noise", find_sampler("mean"), 3, range(1, 51))
    assert [len(table.rows) for table in tables[:4]] == [1, 2, 3, 3]
    assert [table.times[0] for table in tables] == list(range(1, 51))
