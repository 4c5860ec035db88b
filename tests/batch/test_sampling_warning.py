"""Warnings about samples of a photo that cannot show what the model does not know."""

from dataclasses import replace

import pytest

from refusion.batch.options import RestoreOptions, sampling_warning
from refusion.restorers.base import NO_CONDITIONS, HazeOptions, RestorerInfo

INFO = RestorerInfo(
    family="Refusion",
    task="deshadow",
    scale=1,
    views=1,
    needs=frozenset(),
    stochastic=True,
    sampler="posterior",
    steps=1,
    factor=1,
    tiling="exact",
    device="cpu",
    precision="fp32",
)
DENOISER = replace(INFO, stochastic=False, sampler="mean", optional=frozenset({"noise_std"}))


@pytest.mark.parametrize(
    ("info", "settings", "words"),
    [
        (INFO, {}, "use 4 steps"),
        (INFO, {"steps": 4}, None),
        (INFO, {"sampler": "euler"}, None),
        (replace(INFO, stochastic=False), {"steps": 4}, "does not depend on the seed"),
        (DENOISER, {}, "add --sampler posterior --steps 10"),
        (DENOISER, {"steps": 10}, "add --sampler posterior --steps 10"),
        (DENOISER, {"sampler": "posterior"}, "add --sampler posterior --steps 10"),
        (DENOISER, {"sampler": "posterior", "steps": 2}, None),
    ],
)
def test_samples_that_cannot_differ_are_warned_of(info, settings, words):
    warning = sampling_warning(info, RestoreOptions(samples=8, **settings))
    assert (words is None) == (warning is None)
    assert words is None or words in warning
    assert sampling_warning(info, RestoreOptions(**settings)) is None


def test_draws_of_the_haze_differ():
    conditions = replace(NO_CONDITIONS, haze=HazeOptions(draw=True))
    info = replace(INFO, stochastic=False, predicts_haze=True)
    assert sampling_warning(info, RestoreOptions(samples=8, conditions=conditions)) is None
