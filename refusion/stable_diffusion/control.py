"""IRControlNet: the branch of DiffBIR that shows a Stable Diffusion the latent of a photo.

A copy of the U-Net's encoder sees the state and the latent of the stage-1 result; what it adds to
the U-Net's skips goes through convolutions that start at zero (Zhang et al., 2023; Lin et al.,
2024). It is a ControlNet of diffusers whose hint is one convolution without bias.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from refusion.errors import CheckpointError
from refusion.files import atomic_write
from refusion.official.weights import read_published
from refusion.stable_diffusion.folder import StableDiffusion, cast
from refusion.stable_diffusion.ldm_names import control_from_ldm
from refusion.stable_diffusion.libraries import import_library

FORMAT = "1"
_PREFIX = "control_model."  # where the branch was cut out of a whole model
SOURCE = (
    "the IRControlNet of DiffBIR: v2.pth, v1_general.pth or DiffBIR_v2.1.pt, which "
    "huggingface.co has under lxq007/DiffBIR-v2, or the model.safetensors that "
    "options/diffbir_stage2.yml trains"
)


def build_control(sd: StableDiffusion) -> nn.Module:
    """A control branch at its start: the encoder of the U-Net, adding nothing; float32, trainable.

    Args:
        sd: whose U-Net it will steer, and on whose device it will be.

    Returns:
        diffusers' ControlNetModel; the condition's convolution is 0, so that it sees the state
        alone at first.
    """
    model_class = import_library("diffusers", sd.folder).ControlNetModel
    with torch.random.fork_rng(devices=[]):  # its first weights, soon replaced, are random
        control = model_class.from_unet(sd.unet, conditioning_channels=sd.unet.config.in_channels)
    first = control.conv_in
    hint = nn.Conv2d(
        sd.unet.config.in_channels, first.out_channels, 3, padding=first.padding, bias=False
    )
    nn.init.zeros_(hint.weight)
    control.controlnet_cond_embedding = hint
    return cast(control.train().requires_grad_(True), sd.device, torch.float32)


def load_control(path: str | Path, sd: StableDiffusion) -> nn.Module:
    """Read a control branch for this Stable Diffusion: frozen, in its format, on its device.

    Args:
        path: a file of this project (.safetensors) or a published one (.pth, .pt, .ckpt, or
            .safetensors with the same names), of which nothing is run.
        sd: what it was trained with.

    Raises:
        CheckpointError: it cannot be read, or a tensor is missing, left over or of another shape.
    """
    control = build_control(sd)
    fill(control, read_control(path, sd), Path(path), f"of {SOURCE}; and of {sd.folder}")
    return cast(control.eval().requires_grad_(False), sd.device, sd.dtype)


def read_control(path: str | Path, sd: StableDiffusion) -> dict[str, Tensor]:
    """Tensors of a control branch under diffusers' names.

    Raises:
        CheckpointError: the file cannot be read.
    """
    tensors = read_published(path, SOURCE)
    if all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    if not any(name.startswith("input_blocks.") for name in tensors):
        return tensors
    unet = sd.unet.config
    return control_from_ldm(tensors, unet.layers_per_block, unet.in_channels)


def save_control(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    info: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a control branch whole or not at all.

    Args:
        path: .safetensors file.
        tensors: `state_dict` of what `build_control` makes.
        info: JSON values to keep with them.
        dtype: store floating-point tensors so; None as they are.
    """
    stored = {
        name: tensor.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    metadata = {"refusion_control": FORMAT, "info": json.dumps(dict(info))}
    with atomic_write(Path(path)) as aside:
        save_file(stored, aside, metadata=metadata)


def predict_controlled(
    sd: StableDiffusion,
    control: nn.Module,
    zt: Tensor,
    condition: Tensor,
    t: int | Tensor,
    prompts: Tensor,
    strength: float = 1.0,
) -> Tensor:
    """Output of the U-Net that a control branch steers, float32 (B, 4, h, w).

    Args:
        sd: the Stable Diffusion.
        control: of `load_control` or `build_control`; runs in its own format, or in that of the
            autocast around it.
        zt: state (B, 4, h, w).
        condition: latent of the stage-1 result, of the same shape.
        t: time 0..T-1, one or (B,).
        prompts: of `sd.embed`.
        strength: factor of all that the branch adds.
    """
    dtype = next(control.parameters()).dtype
    down, middle = control(
        zt.to(dtype),
        t,
        prompts.to(dtype),
        condition.to(dtype),
        conditioning_scale=strength,
        return_dict=False,
    )
    return sd.predict(
        zt,
        t,
        prompts,
        down_block_additional_residuals=[each.to(sd.dtype) for each in down],
        mid_block_additional_residual=middle.to(sd.dtype),
    )


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, expected: str) -> None:
    """Load tensors into a network, every name and shape exact.

    Raises:
        CheckpointError: names the first tensors that do not fit, by kind.
    """
    own = network.state_dict()
    wrong = {
        "missing": own.keys() - tensors.keys(),
        "unmatched": tensors.keys() - own.keys(),
        "of another shape": {n for n in own.keys() & tensors if own[n].shape != tensors[n].shape},
    }
    if any(wrong.values()):
        said = "; ".join(
            f"{len(names)} {kind}: {', '.join(sorted(names)[:3])}"
            for kind, names in wrong.items()
            if names
        )
        raise CheckpointError(f"{path}: its tensors do not fit ({said}); expected those {expected}")
    network.load_state_dict(dict(tensors))
