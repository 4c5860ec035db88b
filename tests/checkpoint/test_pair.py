"""Two models joined to a pair give what each of them gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import HAZE, build, save

from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint
from refusion.checkpoint.pair import _DEFAULTS, join_pair, split_pair
from refusion.config.settings import constructor_settings
from refusion.errors import CheckpointError, ConfigError
from refusion.nets import ConditionalNAFNet, NAFNetPair


def saved(path: Path, scale: float = 1.0, **settings: object) -> Path:
    """A weights file of a network for haze."""
    section = HAZE["network"] | settings
    state = build(section).state_dict()
    tensors = {f"network.{name}": scale * tensor for name, tensor in state.items()}
    config = {"task": "dehaze", **HAZE, "network": section}
    save_checkpoint(path, config, tensors, {"step": round(7 * scale)})
    return path


def test_each_network_keeps_its_output(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{scale}.safetensors", scale) for scale in (1.0, 0.9)]
    both = [read_checkpoint(file) for file in files]
    pair = join_pair(*both)
    save_checkpoint(tmp_path / "pair.safetensors", pair.model, pair.tensors, pair.info)
    model = build_model(read_checkpoint(tmp_path / "pair.safetensors"))
    assert isinstance(model.network, NAFNetPair)
    assert model.config.sampling == both[0].model.sampling
    assert pair.info == both[0].info
    mu = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parts = model.network(mu, mu, 1).chunk(2, 1)
        for checkpoint, part in zip(both, parts, strict=True):
            assert torch.equal(build_model(checkpoint).network(mu, mu, 1), part)


def test_a_pair_taken_apart_gives_its_networks(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{scale}.safetensors", scale) for scale in (1.0, 0.9)]
    both = [read_checkpoint(file) for file in files]
    for old, new in zip(both, split_pair(join_pair(*both)), strict=True):
        path = tmp_path / "new.safetensors"
        save_checkpoint(path, new.model, new.tensors, new.info)
        read = read_checkpoint(path)
        assert read.tensors.keys() == old.tensors.keys()
        assert all(torch.equal(read.tensors[name], old.tensors[name]) for name in old.tensors)
        mu = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            a, b = (build_model(checkpoint).network(mu, mu, 1) for checkpoint in (old, read))
        assert torch.equal(a, b)


def test_a_single_network_is_not_taken_apart(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "a.safetensors"))
    with pytest.raises(ConfigError, match="expected a NAFNetPair, got ConditionalNAFNet"):
        split_pair(checkpoint)


@pytest.mark.parametrize("settings", [{"border": 4}, {"dark_windows": [3]}, {"width": 16}], ids=str)
def test_the_second_network_has_the_settings_of_the_first(settings: dict, tmp_path: Path) -> None:
    first = read_checkpoint(saved(tmp_path / "a.safetensors"))
    second = read_checkpoint(saved(tmp_path / "b.safetensors", **settings))
    with pytest.raises(ConfigError, match=r"b\.safetensors: expected a network with the settings"):
        join_pair(first, second)


@pytest.mark.parametrize("settings", [{"border": 0}, {"dark_windows": []}], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_a_default_that_is_left_out_is_no_difference(
    settings: dict, turned: bool, tmp_path: Path
) -> None:
    files = [saved(tmp_path / "a.safetensors"), saved(tmp_path / "b.safetensors", **settings)]
    both = [read_checkpoint(file) for file in files]
    pair = join_pair(*(reversed(both) if turned else both))
    save_checkpoint(tmp_path / "pair.safetensors", pair.model, pair.tensors, pair.info)
    model = build_model(read_checkpoint(tmp_path / "pair.safetensors"))
    assert [network.border for network in model.network.networks] == [0, 0]


def test_a_pair_has_the_defaults_of_its_networks() -> None:
    pair, single = (constructor_settings(kind) for kind in (NAFNetPair, ConditionalNAFNet))
    assert all(single[name].default == setting.default for name, setting in pair.items())
    assert {name: single[name].default for name in single.keys() - pair.keys()} == _DEFAULTS


def test_a_network_that_sees_the_state_is_refused(tmp_path: Path) -> None:
    first = read_checkpoint(saved(tmp_path / "a.safetensors"))
    second = read_checkpoint(saved(tmp_path / "b.safetensors", sees_state=True))
    with pytest.raises(ConfigError, match=r"b\.safetensors: expected a ConditionalNAFNet on RGB"):
        join_pair(first, second)


def test_a_unet_is_refused(tmp_path: Path) -> None:
    save("unet", tmp_path / "unet.safetensors")
    checkpoint = read_checkpoint(tmp_path / "unet.safetensors")
    with pytest.raises(ConfigError, match="got None"):
        join_pair(checkpoint, checkpoint)


def test_the_order_of_the_settings_does_not_count(tmp_path: Path) -> None:
    first = read_checkpoint(saved(tmp_path / "a.safetensors"))
    network = first.model.network
    turned = replace(network, settings=dict(reversed(network.settings.items())))
    second = replace(first, model=replace(first.model, network=turned))
    assert join_pair(first, second).model == join_pair(first, first).model


@pytest.mark.parametrize("value", [None, "a.safetensors", 3, {}], ids=str)
def test_what_is_no_checkpoint_is_refused_by_name(value: object, tmp_path: Path) -> None:
    real = read_checkpoint(saved(tmp_path / "a.safetensors"))
    for name, call in {
        "first": lambda: join_pair(value, real),
        "second": lambda: join_pair(real, value),
        "pair": lambda: split_pair(value),
    }.items():
        with pytest.raises(ConfigError, match=f"^{name}: expected a Checkpoint, got "):
            call()


def test_models_that_lack_tensors_are_refused(tmp_path: Path) -> None:
    real = read_checkpoint(saved(tmp_path / "a.safetensors"))
    pair = join_pair(real, real)
    empty, half = replace(real, tensors={}), replace(pair, tensors=real.tensors)
    for call in (lambda: join_pair(real, empty), lambda: split_pair(half)):
        with pytest.raises(CheckpointError, match=r"a\.safetensors: its tensors do not fit"):
            call()
