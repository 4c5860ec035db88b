"""A regression made of a denoising model gives what one step of that model gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import CONFIGS, build, save

from refusion import load_restorer
from refusion.checkpoint import read_checkpoint, save_checkpoint
from refusion.checkpoint.denoiser import as_regression
from refusion.errors import ConfigError
from refusion.restorers import Conditions

STD = 20 / 255


def denoiser(folder: Path, **settings: object) -> Path:
    """A weights file of a tiny denoising model, whose blocks all have an effect."""
    config = dict(CONFIGS["denoise"])
    config["network"] = config["network"] | settings
    network = build(config["network"])
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    path = folder / "denoise.safetensors"
    save_checkpoint(path, config, tensors, {})
    return path


@pytest.mark.parametrize("settings", [{}, {"pixel_unshuffle": 2}, {"pool_window": 16}])
def test_result_is_that_of_one_step_at_this_noise_level(settings: dict, tmp_path: Path) -> None:
    old, path = denoiser(tmp_path, **settings), tmp_path / "new.safetensors"
    new = as_regression(read_checkpoint(old), STD)
    save_checkpoint(path, new.model, new.tensors, new.info)
    photo = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    own = {"device": "cpu", "precision": "fp32"}
    conditions = Conditions(noise_std=STD)
    before = load_restorer(old, **own).restore(photo, steps=1, conditions=conditions)
    after = load_restorer(path, **own).restore(photo)
    assert (before - photo).abs().max() > 1e-2
    torch.testing.assert_close(after, before, atol=1e-3, rtol=0)
    other = load_restorer(old, **own).restore(
        photo, steps=1, conditions=Conditions(noise_std=2 * STD)
    )
    assert (other - before).abs().max() > 1e-2  # the noise level has an effect


@pytest.mark.parametrize("kind", ["pixel", "unet"])
def test_other_models_are_refused(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other\.safetensors: expected a denoising model"):
        as_regression(read_checkpoint(tmp_path / "other.safetensors"), STD)


def test_another_prediction_is_refused(tmp_path: Path) -> None:
    old = read_checkpoint(denoiser(tmp_path))
    with pytest.raises(ConfigError, match="expected a denoising model"):
        as_regression(replace(old, model=replace(old.model, prediction="x0_residual")), STD)
