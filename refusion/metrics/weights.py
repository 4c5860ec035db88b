"""Weight files of learned metrics: given by path, never downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from refusion.errors import CheckpointError

_COUNTER = "num_batches_tracked"


def read_weights(path: str | Path, how: str) -> dict[str, Tensor]:
    """Tensors of a .pth file by name; nothing in it is run.

    Args:
        path: the file.
        how: where to get it, which ends the error.

    Raises:
        CheckpointError: there is no such file, or it holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, and nothing is downloaded here; get {how}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets damaged bytes with any type of exception
        raise CheckpointError(f"{path}: no weights file of PyTorch; get {how}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected tensors by name; get {how}")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def fill(
    network: nn.Module, weights: Mapping[str, Tensor], path: str | Path, how: str
) -> nn.Module:
    """The network with its own tensors out of `weights`, frozen, in evaluation mode.

    Counters of training steps, which files of old versions of PyTorch lack, are not asked for.

    Raises:
        CheckpointError: a tensor is missing or of another shape.
    """
    own = {k: v for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if wrong:
        raise CheckpointError(f"{path}: no fitting tensor '{wrong[0]}'; get {how}")
    network.load_state_dict({name: weights[name] for name in own}, strict=False)
    return network.float().eval().requires_grad_(False)
