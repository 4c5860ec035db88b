"""A network without the state gives what the network with the state gives for xt = mu."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import DIFFUSION, PIXEL, build, save

from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint
from refusion.checkpoint.state_free import without_state
from refusion.errors import ConfigError

TIME = 100


def saved(folder: Path, **settings: object) -> Path:
    """A weights file of a pixel-space network that sees state and photo."""
    section = PIXEL | settings
    tensors = {f"network.{name}": tensor for name, tensor in build(section).state_dict().items()}
    path = folder / "old.safetensors"
    save_checkpoint(
        path, {"task": "deshadow", "network": section} | DIFFUSION, tensors, {"step": 7}
    )
    return path


@pytest.mark.parametrize("settings", [{}, {"pixel_unshuffle": 2}, {"border": 4}])
def test_output_is_that_of_the_old_network_for_the_state_mu(settings: dict, tmp_path: Path) -> None:
    old = read_checkpoint(saved(tmp_path, **settings))
    path = tmp_path / "new.safetensors"
    new = without_state(old, TIME)
    save_checkpoint(path, new.model, new.tensors, new.info)
    before, after = (build_model(read_checkpoint(p)).network for p in (old.path, path))
    mu, state = torch.rand(2, 1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = before(mu, mu, TIME)
        torch.testing.assert_close(after(state, mu, 3), expected, atol=1e-5, rtol=1e-4)
        assert (before(mu, mu, 1) - expected).abs().max() > 1e-3  # the time has an effect
        assert (before(state, mu, TIME) - expected).abs().max() > 1e-3  # and the state, too
    assert not after.sees_state
    assert new.info == old.info


def test_a_stored_half_precision_stays_close(tmp_path: Path) -> None:
    old = read_checkpoint(saved(tmp_path))
    path = tmp_path / "half.safetensors"
    new = without_state(old, TIME)
    save_checkpoint(path, new.model, new.tensors, new.info, torch.float16)
    before, after = (build_model(read_checkpoint(p)).network.float() for p in (old.path, path))
    mu = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = after(mu, mu, 0) - before(mu, mu, TIME)
    assert difference.abs().max() < 0.01


@pytest.mark.parametrize(
    "settings", [{"sees_state": False}, {"conditional": False}, {"lens": True}, {"stereo": True}]
)
def test_other_networks_are_refused(settings: dict, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path, **settings))
    with pytest.raises(ConfigError, match=r"old\.safetensors: expected a ConditionalNAFNet"):
        without_state(checkpoint, TIME)


def test_a_unet_is_refused(tmp_path: Path) -> None:
    save("unet", tmp_path / "unet.safetensors")
    checkpoint = read_checkpoint(tmp_path / "unet.safetensors")
    with pytest.raises(ConfigError, match="got None"):
        without_state(checkpoint, TIME)
