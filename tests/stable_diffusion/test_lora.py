"""Adapters: nothing at first, exactly the ones that act, and the same function once merged."""

import pytest
import torch
from torch import nn

from refusion.errors import CheckpointError
from refusion.stable_diffusion import lora


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.rest = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.Linear(6, 4)])

    def forward(self, x):
        x = self.rest[0](torch.tanh(self.first(x)))
        return self.rest[1](x.mean(dim=(2, 3)))


ALL = ["first", "rest.0", "rest.1"]


@pytest.fixture
def net():
    pytest.importorskip("peft")
    torch.manual_seed(0)
    return Net().requires_grad_(False)


def seen():
    return torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))


def trained(net, names):
    """Give adapters values as if they were trained."""
    generator = torch.Generator().manual_seed(1)
    for parameter in lora.parameters_of(net, names).values():
        parameter.data = torch.randn(parameter.shape, generator=generator)


def test_new_adapters_change_nothing(net):
    before = net(seen())
    lora.attach(net, {"a": ALL}, 2, "x")
    assert torch.equal(net(seen()), before)
    own = lora.parameters_of(net, ["a"])
    assert len(own) == 6 and own["first.lora_A.a.weight"].shape == (2, 3, 3, 3)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == list(own)


def test_those_act_that_are_asked_and_their_update_is_the_published(net):
    plain = net.rest[1](torch.ones(1, 6))
    lora.attach(net, {"a": ALL[:2], "b": ALL[2:]}, 2, "x")
    lora.attach(net, {"c": ALL}, 2, "x")
    trained(net, ["a", "b", "c"])
    results = {}
    for names in ((), ("a",), ("a", "b"), ("c",)):
        lora.activate(net, names)
        results[names] = net(seen())
    assert len({tuple(result.flatten().tolist()) for result in results.values()}) == 4
    lora.activate(net, [])
    assert torch.equal(net.rest[1](torch.ones(1, 6)), plain)
    lora.activate(net, ["b"])
    own = lora.parameters_of(net, ["b"])
    update = own["rest.1.lora_B.b.weight"] @ own["rest.1.lora_A.b.weight"] * lora.ALPHA / 2
    torch.testing.assert_close(net.rest[1](torch.ones(1, 6)), plain + update.sum(dim=1))


def test_a_switch_before_backward_loses_no_gradient(net):
    lora.attach(net, {"a": ALL}, 2, "x")
    lora.attach(net, {"b": ALL}, 2, "x")
    trained(net, ["a", "b"])
    lora.activate(net, ["a"])
    loss = net(seen()).square().sum()
    lora.activate(net, ["b"])
    loss.backward()
    assert all(bool(p.grad.any()) for p in lora.parameters_of(net, ["a"]).values())
    assert all(p.grad is None for p in lora.parameters_of(net, ["b"]).values())
    assert all(p.requires_grad for p in lora.parameters_of(net, ["a", "b"]).values())


def test_merged_is_the_same_function_without_adapters(net):
    names = [name for name, _ in net.named_parameters()]
    lora.attach(net, {"a": ALL[:2], "b": ALL[2:]}, 2, "x")
    trained(net, ["a", "b"])
    adapted = net(seen())
    lora.merge(net)
    torch.testing.assert_close(net(seen()), adapted, rtol=1e-5, atol=1e-5)
    assert [name for name, _ in net.named_parameters()] == names


@pytest.mark.parametrize("layer", ["second", "rest"])
def test_a_layer_that_is_not_there_is_named(net, layer):
    with pytest.raises(CheckpointError, match=rf"file: adapts the layer '{layer}'"):
        lora.attach(net, {"a": ["first", layer]}, 2, "file")
