"""Learning rates and optimizers."""

import lion_pytorch
import pytest
import torch
from torch import nn

from refusion.config.sections import LrScheduleConfig, OptimizerConfig
from refusion.errors import ConfigError
from refusion.training.optim import OPTIMIZERS, build_optimizer, learning_rate


def test_warm_up_rises_linearly_then_cosine_falls_to_eta_min():
    schedule = LrScheduleConfig(type="cosine", warmup_steps=4, eta_min=0.1)
    rates = [learning_rate(step, 25, 1.0, schedule) for step in range(25)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(1.0)
    assert rates[14] == pytest.approx(0.55)
    assert rates[24] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_constant():
    schedule = LrScheduleConfig(type="constant", warmup_steps=1)
    assert [learning_rate(step, 9, 2.0, schedule) for step in (0, 1, 8)] == [1.0, 2.0, 2.0]


def test_multistep_halves_after_each_milestone():
    schedule = LrScheduleConfig(type="multistep", milestones=(2, 5), gamma=0.5)
    rates = [learning_rate(step, 8, 1.0, schedule) for step in range(8)]
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    # PyTorch's own schedule as the authors use it
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], gamma=0.5)
    for rate in rates:
        assert rate == theirs.get_last_lr()[0]
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    "wrong",
    [{"type": "multistep"}, {"milestones": (3,)}, {"type": "multistep", "milestones": (5, 2)}],
)
def test_milestones_must_fit_their_schedule(wrong):
    with pytest.raises(ConfigError, match="milestones"):
        LrScheduleConfig(**wrong)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_descend(name):
    layer = nn.Linear(3, 1, bias=False)
    optimizer = build_optimizer(layer.parameters(), OptimizerConfig(type=name, lr=1e-2))
    x = torch.ones(4, 3)
    losses = []
    for _ in range(50):
        loss = (layer(x) - 5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_lion_first_step_is_the_sign_of_the_gradient():
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer.parameters(), OptimizerConfig(type="Lion", lr=0.25))
    (layer.weight * torch.tensor([[3.0, -0.1]])).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach() - before, torch.tensor([[-0.25, 0.25]]))


def test_lion_gives_the_bits_of_the_package_on_a_cpu():
    """The package has one operation per parameter, this project one for all."""
    runs = []
    for kind in (lion_pytorch.Lion, OPTIMIZERS["Lion"]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 3, 1))
        layers.to(memory_format=torch.channels_last)
        unused = nn.Parameter(torch.ones(3))  # without a gradient
        optimizer = kind([*layers.parameters(), unused], lr=1e-3, weight_decay=0.1)
        for step in range(20):
            optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1) / 20
            optimizer.zero_grad()
            layers(torch.rand(2, 3, 9, 9)).square().mean().backward()
            optimizer.step()
        averages = [optimizer.state[each]["exp_avg"] for each in layers.parameters()]
        runs.append([*layers.parameters(), unused, *averages])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
