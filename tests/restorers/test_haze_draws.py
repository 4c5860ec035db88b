"""Models that predict haze: seeds, steps and random draws."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import interpolate

from refusion.restorers import Conditions, HazeOptions, load_restorer


@pytest.fixture(scope="module")
def restorer(tiny_checkpoint):
    return load_restorer(tiny_checkpoint("haze"), device="cpu", precision="fp32")


@pytest.fixture
def photo():
    rough = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    smooth = interpolate(rough, (60, 80), mode="bicubic").clamp(0, 1)
    return (smooth.double() * 255).round().to(torch.uint8)


@pytest.mark.parametrize("sampler", ["posterior", "ode", "sde-data-2"])
def test_every_number_of_calls_gives_the_same_and_calls_the_network_once(
    restorer, photo, monkeypatch, sampler
):
    """The network does not see the state, so its estimate is the same at all times."""
    calls = []
    expected = restorer.restore(photo)
    network = restorer._restorer._model.network
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *a, **k: calls.append(0) or forward(*a, **k))
    for steps in (1, 2, 7, 100):
        assert torch.equal(restorer.restore(photo, steps=steps, sampler=sampler), expected)
        assert torch.equal(restorer.restore(photo, steps=steps, seed=5), expected)
    assert len(calls) == 8
    assert not restorer.info.stochastic


def test_a_draw_is_another_haze(restorer, photo):
    haze = HazeOptions(draw=True)
    draws = [
        restorer.restore(photo, seed=seed, conditions=Conditions(haze=haze)) for seed in range(4)
    ]
    again = restorer.restore(photo, seed=2, conditions=Conditions(haze=haze))
    assert torch.equal(draws[2], again)
    assert all(not torch.equal(one, other) for one, other in pairwise(draws))
    split = restorer.decompose(photo, seed=3, draw=True)
    assert torch.equal(split.clear(), draws[3])
    # Photos of a batch with seeds of their own have the draws of the single photos.
    both = restorer.restore(
        photo.float().div(255).repeat(2, 1, 1, 1), seed=[1, 3], conditions=Conditions(haze=haze)
    )
    alone = restorer.restore(photo.float().div(255), seed=3, conditions=Conditions(haze=haze))
    torch.testing.assert_close(both[1:], alone, atol=2e-5, rtol=0)
    flat = torch.full((1, 3, 40, 60), 0.4)
    assert torch.equal(restorer.restore(flat, conditions=Conditions(haze=haze)), flat)
