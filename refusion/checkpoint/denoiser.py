"""A denoising diffusion, turned into a regression that removes noise of one level."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from refusion.checkpoint.file import Checkpoint
from refusion.checkpoint.model import build_model
from refusion.config import config_to_dict
from refusion.config.parser import Component
from refusion.errors import ConfigError
from refusion.nets import ConditionalNAFNet
from refusion.sde import DenoisingSDE, build_sde

_KEPT = ("img_channel", "width", "enc_blk_nums", "middle_blk_num", "dec_blk_nums", "pool_window",
         "pixel_unshuffle", "border")  # fmt: skip
_LEFT_OUT = (".mlp.", "time_mlp.", ".norm1.", ".norm2.")


def as_regression(checkpoint: Checkpoint, noise_std: float) -> Checkpoint:
    """Turn a `ConditionalNAFNet` that predicts the noise into a `NAFNet` that predicts the photo.

    The scales and shifts of the blocks at the time of this noise level become those of their norms.
    So the new network gives what one step of the old one gives for photos with this noise, except
    for the number added to the variance in the norms. It is a start for the training of a
    regression (`init` of an option file).

    Args:
        checkpoint: of a denoising model with `prediction: noise`.
        noise_std: standard deviation of the noise, in [0, 1] units.

    Returns:
        The checkpoint with other tensors and another model; the path is that of the old one.

    Raises:
        ConfigError: the model is no such denoising model.
    """
    settings = _settings(checkpoint)
    sde = build_sde(config_to_dict(checkpoint.model)["sde"])
    t = sde.optimal_timestep(noise_std)
    network, std = build_model(checkpoint).network.float(), float(sde.std(t))
    state = {name: value.float() for name, value in network.state_dict().items()}
    tensors = {k: v for k, v in state.items() if not any(part in f".{k}" for part in _LEFT_OUT)}
    with torch.no_grad():
        time = network.time_mlp(torch.tensor([float(t)]))
        for name in [key.removesuffix(".norm1.g") for key in state if key.endswith(".norm1.g")]:
            parts = network.get_submodule(name).mlp(time)[0].chunk(4)
            tensors |= _norms(name, state, *parts)
    for name in ("ending.weight", "ending.bias"):  # x0 = xt - std * noise
        tensors[name] = -std * tensors[name]
    defaults = inspect.signature(ConditionalNAFNet).parameters  # those of NAFNet are others
    kept = {key: settings.get(key, defaults[key].default) for key in _KEPT}
    model = replace(
        checkpoint.model,
        network=Component("NAFNet", kept),
        sde=None,
        prediction=None,
        sampling=None,
    )
    tensors = {f"network.{name}": value.contiguous() for name, value in tensors.items()}
    return replace(checkpoint, model=model, tensors=tensors)


def _norms(
    block: str, state: dict[str, Tensor], shift1: Tensor, scale1: Tensor, *second: Tensor
) -> dict[str, Tensor]:
    """Gain and bias of the norms of a block."""
    shift2, scale2 = second
    pairs = {"norm1": (shift1, scale1), "norm2": (shift2, scale2)}
    return {
        f"{block}.{norm}.{key}": value
        for norm, (shift, scale) in pairs.items()
        for key, value in (
            ("weight", state[f"{block}.{norm}.g"].flatten() * (1 + scale)),
            ("bias", shift),
        )
    }


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    model = checkpoint.model
    network = model.network
    settings = {} if network is None else dict(network.settings)
    is_known = (
        network is not None
        and network.type == "ConditionalNAFNet"
        and not settings.get("conditional", True)
        and settings.get("wiring", "pixel") == "pixel"
        and model.prediction == "noise"
        and model.sde is not None
        and model.sde.type == DenoisingSDE.__name__
    )
    if not is_known:
        raise ConfigError(
            f"{checkpoint.path}: expected a denoising model, a ConditionalNAFNet with conditional: "
            "false, prediction: noise and a DenoisingSDE"
        )
    return settings
