"""Building the networks that a weights file describes, and loading its tensors into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.checkpoint.file import Checkpoint
from refusion.checkpoint.shapes import PARTS, check_shapes, expected_shapes
from refusion.config import ModelConfig, find_table
from refusion.config.parser import Component


@dataclass(frozen=True)
class Model:
    """The networks of a weights file, in evaluation mode, float32, frozen, on the CPU.

    Attributes:
        network: the noise or regression network; None if the file has none.
        latent_unet: the latent U-Net; None for models that work on pixels.
        config: the config that the networks were built from.
    """

    network: nn.Module | None
    latent_unet: nn.Module | None
    config: ModelConfig


def build_model(checkpoint: Checkpoint) -> Model:
    """Build the networks of a checkpoint and load its tensors; all names and shapes must match.

    Args:
        checkpoint: content of a weights file.

    Raises:
        CheckpointError: a tensor is missing, not used or of another shape, or a network cannot be
            built from the config.
    """
    check_arguments(build_model, locals())
    parts = {part: getattr(checkpoint.model, part) for part in PARTS}
    found = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    check_shapes(checkpoint.path, found, expected_shapes(checkpoint.path, checkpoint.model))
    nets = {
        part: None if component is None else _load(part, component, checkpoint.tensors)
        for part, component in parts.items()
    }
    return Model(nets["network"], nets["latent_unet"], checkpoint.model)


def stored_tensors(model: Model, dtypes: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
    """The tensors of a weights file that a model was built from.

    Args:
        model: result of `build_model`.
        dtypes: dtype of each tensor in the file by its name there. Nothing is lost, except that
            tensors of float64 were rounded to float32.
    """
    check_arguments(stored_tensors, locals())
    return {
        f"{part}.{name}": tensor.to(dtypes[f"{part}.{name}"])
        for part in PARTS
        if (net := getattr(model, part)) is not None
        for name, tensor in net.state_dict().items()
    }


def _load(part: str, component: Component, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build one network and load its tensors, cast to float32."""
    with torch.random.fork_rng(devices=[]):  # random initial weights must not change the global RNG
        net = find_table("nets")[component.type](**component.settings)
    prefix = f"{part}."
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    net.load_state_dict(own, strict=True)
    return net.float().eval().requires_grad_(False)
