"""Building the networks that a weights file describes, and loading its tensors into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from refusion.checkpoint.file import PARTS, Checkpoint, fail
from refusion.config import ModelConfig, find_table
from refusion.config.parser import Component

_MAX_SETTING = 4096  # channels or blocks; real networks have far fewer, and this fits the memory


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
    parts = {part: getattr(checkpoint.model, part) for part in PARTS}
    shapes: dict[str, torch.Size] = {}
    for part, component in parts.items():
        if component is not None:
            shapes |= _expected_shapes(checkpoint.path, part, component)
    _check_match(checkpoint, shapes)
    nets = {
        part: None if component is None else _load(part, component, checkpoint.tensors)
        for part, component in parts.items()
    }
    return Model(nets["network"], nets["latent_unet"], checkpoint.model)


def _expected_shapes(path: Path, part: str, component: Component) -> dict[str, torch.Size]:
    """Shapes of the tensors of a network, built without memory: a malicious config uses none."""
    for key, value in component.settings.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if sum(abs(n) for n in numbers if isinstance(n, int)) > _MAX_SETTING:
            fail(path, f"stored config: {part}.{key} = {value} exceeds {_MAX_SETTING}")
    try:
        with torch.device("meta"):
            net = find_table("nets")[component.type](**component.settings)
    except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
        fail(path, f"stored config: {part} cannot be built: {error}")
    return {f"{part}.{name}": tensor.shape for name, tensor in net.state_dict().items()}


def _check_match(checkpoint: Checkpoint, shapes: Mapping[str, torch.Size]) -> None:
    found = checkpoint.tensors
    problems = {
        "missing": [name for name in shapes if name not in found],
        "unexpected": [name for name in found if name not in shapes],
        "wrong shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(shape)}"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ],
    }
    if any(problems.values()):
        lines = "; ".join(f"{what}: {_first(names)}" for what, names in problems.items() if names)
        fail(
            checkpoint.path,
            f"its tensors do not fit its stored config. {lines}. Use the file as it was written, "
            "with the version of refusion that wrote it",
        )


def _first(names: Iterable[str], limit: int = 3) -> str:
    names = sorted(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _load(part: str, component: Component, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build one network and load its tensors, cast to float32."""
    with torch.random.fork_rng(devices=[]):  # random initial weights must not change the global RNG
        net = find_table("nets")[component.type](**component.settings)
    prefix = f"{part}."
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    net.load_state_dict(own, strict=True)
    return net.float().eval().requires_grad_(False)
