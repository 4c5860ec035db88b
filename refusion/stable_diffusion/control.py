"""IRControlNet: the branch of DiffBIR that conditions a Stable Diffusion on the latent of a photo.

The branch is a copy of the U-Net's encoder. Its inputs are the state and the latent of the stage-1
result. Its outputs pass convolutions that are initialised with zeros and are added to the skips of
the U-Net (Zhang et al., 2023; Lin et al., 2024). It is implemented as a ControlNet of diffusers
whose condition embedding is one convolution without bias.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from refusion.errors import CheckpointError, printable
from refusion.files import atomic_write
from refusion.official.weights import read_published
from refusion.stable_diffusion.folder import StableDiffusion, cast
from refusion.stable_diffusion.ldm_names import control_from_ldm
from refusion.stable_diffusion.libraries import import_library

FORMAT = "1"
_PREFIX = "control_model."  # prefix of the branch's tensors in a file of the whole model
SOURCE = (
    "the IRControlNet of DiffBIR: v2.pth, v1_general.pth or DiffBIR_v2.1.pt from "
    "huggingface.co, lxq007/DiffBIR-v2, or a model.safetensors trained with "
    "options/diffbir_stage2.yml"
)


def build_control(sd: StableDiffusion) -> nn.Module:
    """Make an untrained control branch with the weights of the U-Net's encoder.

    The convolution of the condition and the output convolutions start at zero, so at first the
    branch depends on the state alone and does not change the output of the U-Net.

    Args:
        sd: model whose U-Net the branch conditions.

    Returns:
        ControlNetModel of diffusers, float32, trainable, on the device of `sd`.
    """
    model_class = import_library("diffusers", sd.folder).ControlNetModel
    with torch.random.fork_rng(devices=[]):  # keeps the global generator unchanged
        control = model_class.from_unet(sd.unet, conditioning_channels=sd.unet.config.in_channels)
    first = control.conv_in
    embedding = nn.Conv2d(
        sd.unet.config.in_channels, first.out_channels, 3, padding=first.padding, bias=False
    )
    nn.init.zeros_(embedding.weight)
    control.controlnet_cond_embedding = embedding
    return cast(control.train().requires_grad_(True), sd.device, torch.float32)


def load_control(path: str | Path, sd: StableDiffusion) -> nn.Module:
    """Load a control branch for inference.

    Args:
        path: file of this project (.safetensors) or published file (.pth, .pt, .ckpt, or
            .safetensors with the same names); no code from the file is run.
        sd: Stable Diffusion that the branch was trained with.

    Returns:
        ControlNetModel of diffusers, frozen, with the dtype and device of `sd`.

    Raises:
        CheckpointError: the file cannot be read, or a tensor is missing, unexpected or has
            another shape.
    """
    control = build_control(sd)
    tensors = read_control(path, sd)
    load_matching_tensors(control, tensors, Path(path), f"of {SOURCE}; and of {sd.folder}")
    return cast(control.eval().requires_grad_(False), sd.device, sd.dtype)


def read_control(path: str | Path, sd: StableDiffusion) -> dict[str, Tensor]:
    """Read the tensors of a control branch, renamed to the layout of diffusers.

    Args:
        path: see `load_control`.
        sd: Stable Diffusion that the branch was trained with.

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
    """Write a control branch; an interrupted write leaves no partial file.

    Args:
        path: .safetensors file to write.
        tensors: `state_dict` of a network made by `build_control`.
        info: JSON values to store in the file's metadata.
        dtype: dtype of the stored tensors; None keeps their dtype.
    """
    stored = {
        name: tensor.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    metadata = {"refusion_control": FORMAT, "info": json.dumps(dict(info))}
    with atomic_write(Path(path)) as temporary:
        save_file(stored, temporary, metadata=metadata)


def predict_controlled(
    sd: StableDiffusion,
    control: nn.Module,
    zt: Tensor,
    condition: Tensor,
    t: int | Tensor,
    prompts: Tensor,
    strength: float = 1.0,
) -> Tensor:
    """Predict with the U-Net and the control branch.

    Args:
        sd: the Stable Diffusion.
        control: branch from `load_control` or `build_control`; it runs in its own dtype, or in
            that of an enclosing autocast.
        zt: state (B, 4, h, w).
        condition: latent of the stage-1 result (B, 4, h, w).
        t: time 0..T-1, a number or (B,).
        prompts: text embeddings from `sd.embed`, (B, tokens, D).
        strength: factor for all outputs of the branch.

    Returns:
        Output of the U-Net, float32 (B, 4, h, w); `sd.schedule` converts it.
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


def load_matching_tensors(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, expected: str
) -> None:
    """Load tensors into a network; names and shapes must be exactly those of the network.

    Args:
        network: changed in place.
        tensors: values of all parameters and buffers, by name.
        path: file of the tensors, for the error message.
        expected: description of the expected tensors, for the error message; follows "those".

    Raises:
        CheckpointError: a tensor is missing, unmatched or has another shape.
    """
    own = network.state_dict()
    wrong = {
        "missing": own.keys() - tensors.keys(),
        "unmatched": tensors.keys() - own.keys(),
        "of another shape": {n for n in own.keys() & tensors if own[n].shape != tensors[n].shape},
    }
    if any(wrong.values()):
        differences = "; ".join(
            f"{len(names)} {kind}: {', '.join(printable(name, 60) for name in sorted(names)[:3])}"
            for kind, names in wrong.items()
            if names
        )
        raise CheckpointError(
            f"{path}: its tensors do not fit ({differences}); expected those {expected}"
        )
    network.load_state_dict(dict(tensors))
