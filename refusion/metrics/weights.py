"""Reading the weights files of learned metrics; the user gives the path, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from refusion.errors import CheckpointError
from refusion.tensor_files.pickles import load_pickle

_COUNTER = "num_batches_tracked"


def read_weights(path: str | Path, how: str) -> dict[str, Tensor]:
    """Read the tensors of a .pth file; code in the file is not run.

    Args:
        path: the file.
        how: name and source of the file, the end of an error message after "get ".

    Returns:
        Tensors by name, on the CPU.

    Raises:
        CheckpointError: the file does not exist, is damaged, or is not a mapping of tensors.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file, and nothing is downloaded here; get {how}")
    try:
        content = load_pickle(path)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(
            f"{path}: not a weights file of PyTorch: {reason}; get {how}"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected tensors by name; get {how}")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def fill(
    network: nn.Module, weights: Mapping[str, Tensor], path: str | Path, how: str
) -> nn.Module:
    """Load a network's tensors from `weights`; then it is frozen, float32, in evaluation mode.

    Tensors that the network does not have are ignored. The counters of batch normalisation are not
    needed, because files of old versions of PyTorch do not contain them.

    Args:
        network: changed in place.
        weights: tensors by name.
        path: the file of the tensors, for the message.
        how: see `read_weights`.

    Returns:
        The network.

    Raises:
        CheckpointError: a tensor is missing, has another shape or holds values that are not finite.
    """
    own = {k: v for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if wrong:
        raise CheckpointError(
            f"{path}: tensor '{wrong[0]}' is missing or has another shape; get {how}"
        )
    odd = [name for name in own if not _is_plain(weights[name])]
    if odd:
        raise CheckpointError(
            f"{path}: tensor '{odd[0]}' is not stored densely, or is not finite; get {how}"
        )
    network.load_state_dict({name: weights[name] for name in own}, strict=False)
    return network.float().eval().requires_grad_(False)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has finite values, all stored one by one."""
    is_dense = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_meta)
    return is_dense and bool(torch.isfinite(tensor).all())
