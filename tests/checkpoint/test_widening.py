"""A wider network starts where the old one was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import DENOISING, PIXEL, build, save

from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint, widening
from refusion.checkpoint.widening import widened
from refusion.errors import ConfigError

CASES = {
    "plain": {},
    "folded": {"pixel_unshuffle": 2, "border": 4, "enc_blk_nums": [1, 2, 1]},
    "state only": {"conditional": False},
}


def saved(folder: Path, **settings: object) -> Path:
    section = PIXEL | settings | {"dec_blk_nums": [1] * len(settings.get("enc_blk_nums", [1, 1]))}
    tensors = {f"network.{name}": tensor for name, tensor in build(section).state_dict().items()}
    path = folder / "old.safetensors"
    save_checkpoint(path, {"task": "denoise", "network": section} | DENOISING, tensors, {"step": 7})
    return path


def saved_regression(folder: Path) -> Path:
    """A `NAFNet` where each parameter has an effect."""
    settings = {"width": 8, "enc_blk_nums": [1, 2], "dec_blk_nums": [1, 1], "pixel_unshuffle": 2}
    network = build({"type": "NAFNet", **settings})
    for parameter in (
        *network.ending.parameters(),
        *(p for p in network.parameters() if p.dim() == 1),
    ):
        torch.nn.init.normal_(parameter, 0.5, 0.3)  # biases and gains of norms are 0 and 1
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    path = folder / "regression.safetensors"
    save_checkpoint(path, {"task": "blind", "network": {"type": "NAFNet", **settings}}, tensors, {})
    return path


def network_of(checkpoint, folder: Path):
    """Through a file, as a training reads it."""
    path = folder / "new.safetensors"
    save_checkpoint(path, checkpoint.model, checkpoint.tensors, checkpoint.info)
    return build_model(read_checkpoint(path)).network


def outputs(*networks) -> list[torch.Tensor]:
    xt, mu = torch.rand(2, 2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [network(xt, mu, torch.tensor([20.0, 70.0])) for network in networks]


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    return ((value - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("width", "largest"), [(8, 0.01), (16, 0.03), (24, 0.03), (12, 0.4)])
def test_the_output_stays(settings, width, largest, tmp_path, monkeypatch):
    """Close with as many copies of each channel: only the frequencies of the time are others."""
    monkeypatch.setattr(widening, "NOISE", 0.0)
    old = read_checkpoint(saved(tmp_path, **settings))
    network = network_of(widened(old, width), tmp_path)
    assert network.intro.out_channels == width
    before, after = outputs(build_model(old).network, network)
    assert relative_error(after, before) < largest


def test_with_noise_the_output_is_close_and_copies_differ(tmp_path):
    old = read_checkpoint(saved(tmp_path))
    network = network_of(widened(old, 16), tmp_path)
    before, after = outputs(build_model(old).network, network)
    assert 1e-4 < relative_error(after, before) < 0.1
    first = network.intro.weight
    assert torch.unique(first, dim=0).shape == first.shape


@pytest.mark.parametrize("width", [8, 16, 24])
def test_a_regression_with_as_many_copies_of_each_channel_gives_the_same(
    width, tmp_path, monkeypatch
):
    monkeypatch.setattr(widening, "NOISE", 0.0)
    old = read_checkpoint(saved_regression(tmp_path))
    network = network_of(widened(old, width), tmp_path)
    assert network.intro.out_channels == width
    lq = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = build_model(old).network(lq), network(lq)
    assert (before - lq).abs().max() > 0.01
    assert relative_error(after - lq, before - lq) < 1e-5


def test_every_parameter_learns(tmp_path):
    old = read_checkpoint(saved(tmp_path))
    network = network_of(widened(old, 12), tmp_path).requires_grad_()
    xt, mu = torch.rand(2, 2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    network(xt, mu, torch.tensor([20.0, 70.0])).square().mean().backward()
    for name, parameter in network.named_parameters():
        if name.endswith("mlp.1.weight") and not name.startswith("time"):
            assert (parameter.grad != 0).any(0).all(), name  # also the new values of the time
        assert parameter.grad.abs().max() > 0, name


def test_the_seed_decides(tmp_path):
    old = read_checkpoint(saved(tmp_path))
    one, same, other = (widened(old, 12, seed).tensors for seed in (1, 1, 2))
    name = "network.intro.weight"
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one[name], other[name])


def test_a_smaller_width_is_refused(tmp_path):
    old = read_checkpoint(saved(tmp_path))
    with pytest.raises(ConfigError, match="width: expected at least 8, as before, got 6"):
        widened(old, 6)


@pytest.mark.parametrize("kind", ["lens", "stereo", "unet"])
def test_other_networks_are_refused(kind, tmp_path):
    save(kind, tmp_path / "other.safetensors")
    checkpoint = read_checkpoint(tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other\.safetensors: expected a NAFNet without"):
        widened(checkpoint, 16)


@pytest.mark.parametrize("width", [None, "16", True, 16.5, -8, 10**9], ids=str)
def test_a_width_that_is_none_is_refused_by_name(width, tmp_path):
    old = read_checkpoint(saved(tmp_path))
    with pytest.raises(ConfigError, match=r"^width: expected a whole number at least 1"):
        widened(old, width)


@pytest.mark.parametrize(("width", "reason"), [(9, "an even number"), (4096, "more than 20")])
def test_a_width_without_a_network_is_refused_before_any_work(width, reason, tmp_path, monkeypatch):
    old = read_checkpoint(saved(tmp_path, enc_blk_nums=[1, 1, 1, 1]))
    monkeypatch.setattr(widening, "_copies", None)
    with pytest.raises(ConfigError, match=rf"^width: {width}: cannot be built: .*{reason}"):
        widened(old, width)
