"""The average against its closed form."""

import pytest
import torch
from torch import nn

from refusion.training.ema import Ema


def scalar(value):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_constant_decay_is_the_geometric_sum():
    layer = scalar(0.0)
    ema = Ema(layer, 0.5)
    ema.updates = 1000  # past the start, where the decay is smaller
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(layer.weight, value)
        ema.update(layer, 1)
    assert ema.module.weight.item() == pytest.approx(0.125 * 1 + 0.25 * 2 + 0.5 * 4)


def test_early_average_forgets_the_start():
    layer = scalar(100.0)
    ema = Ema(layer, 0.999)
    nn.init.constant_(layer.weight, 1.0)
    for step in range(1, 21):
        ema.update(layer, step)
    # product of (1 + n) / (10 + n), n = 1..20
    left = torch.tensor([(1 + n) / (10 + n) for n in range(1, 21)]).prod().item()
    assert ema.module.weight.item() == pytest.approx(1 + 99 * left, rel=1e-5)
    assert left < 1e-3


def test_decay_zero_keeps_the_raw_weights():
    layer = scalar(0.0)
    ema = Ema(layer, 0.0)
    nn.init.constant_(layer.weight, 3.0)
    ema.update(layer, 1)
    assert ema.module.weight.item() == 3.0


def test_state_round_trip():
    layer = scalar(1.0)
    ema = Ema(layer, 0.9)
    ema.update(layer, 1)
    other = Ema(scalar(7.0), 0.9)
    other.load_state_dict(ema.state_dict())
    assert (other.updates, other.module.weight.item()) == (1, 1.0)


def test_only_every_so_many_steps_count():
    layer = scalar(0.0)
    ema = Ema(layer, 0.5, every=3)
    ema.updates = 1000
    for step in range(1, 8):
        nn.init.constant_(layer.weight, float(step))
        ema.update(layer, step)
    assert ema.updates == 1002
    assert ema.module.weight.item() == pytest.approx(0.25 * 3 + 0.5 * 6)


def test_before_the_first_update_there_are_the_raw_weights():
    layer = scalar(1.0)
    ema = Ema(layer, 0.9, every=10)
    for step in range(1, 6):
        nn.init.constant_(layer.weight, float(step))
        ema.update(layer, step)
    assert (ema.updates, ema.module.weight.item()) == (0, 5.0)
