"""Reads published weights (.pth, .safetensors) as tensors, without running code from the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusion.errors import CheckpointError, one_line, printable
from refusion.tensor_files.containers import check_safetensors, is_safetensors
from refusion.tensor_files.pickles import load_pickle

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict")
_PREFIX = re.compile(r"(?:module\.|_orig_mod\.)*")  # added by nn.DataParallel and torch.compile
_MOST_WRAPPERS = 10
_LONGEST_NAME = 1000  # characters
_MOST_SHARED = 4  # tensors with the same data, on average; tied weights are 2
_SMALL = 64 * 2**20  # bytes that tensors may always have
_FORMATS = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
_AVERAGE = "ema_model."  # prefix of the averaged copy in a saved `ema_pytorch.EMA`


def read_official(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .pth or .safetensors file by their names in the network.

    Enclosing dictionaries and the prefix `module.` are removed. Of a saved averaging object
    (`ema_pytorch`), which contains the network twice, the averaged copy is read.

    Args:
        path: state dict saved by `torch.save`, or safetensors; the file need not be trusted.

    Returns:
        Tensors on the CPU, with the stored dtype.

    Raises:
        CheckpointError: the file does not exist, was not written by `torch.save` or safetensors, is
            damaged, contains other objects than tensors and plain values, contains no weights, or
            is a checkpoint of this project.
    """
    path = Path(path)
    state = _unwrapped(path, _content(path))
    if any(isinstance(name, str) and name.startswith(_AVERAGE) for name in state):
        state = {
            name.removeprefix(_AVERAGE): value
            for name, value in state.items()
            if isinstance(name, str) and name.startswith(_AVERAGE)
        }
    if not state:
        _fail(path, "holds no tensors")
    tensors = {_without_prefixes(path, name): value for name, value in state.items()}
    if len(tensors) < len(state):
        _fail(path, "holds two tensors with one name, with and without a prefix such as 'module.'")
    check_total(path, tensors.values())
    for name, value in tensors.items():
        check_tensor(path, name, value)
    return tensors


def read_published(path: str | Path, expected: str) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file or of a file that `read_official` reads.

    Args:
        path: weights file; it need not be trusted.
        expected: description of the expected file, for error messages.

    Returns:
        Tensors on the CPU, with the stored dtype.

    Raises:
        CheckpointError: see `read_official`.
    """
    path = Path(path)
    if not path.exists():
        _fail(path, f"no such weights file; expected {expected}")
    return read_official(path)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: the file is damaged, or `check_tensor` refuses a tensor.
    """
    try:
        check_safetensors(path, "expected a safetensors file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = one_line(error, 100)
        _fail(path, f"damaged or no safetensors file ({reason}); download or copy it again")
    for name, tensor in tensors.items():
        check_tensor(path, name, tensor)
    return tensors, metadata


def _content(path: Path) -> Any:
    """The saved object of a file of PyTorch, or the tensors of a safetensors file by name."""
    try:
        if not is_safetensors(path):
            return load_pickle(path)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        _fail(path, "no such weights file" if missing else f"cannot be read: {error.strerror}")
    tensors, metadata = read_safetensors(path)
    if "refusion" in metadata:
        _fail(path, "is a checkpoint already, in a safetensors file; give it to --weights")
    return tensors


def _unwrapped(path: Path, state: Any) -> Mapping[Any, Any]:
    """The dictionary of named tensors inside the enclosing dictionaries."""
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(state, Mapping):
            _fail(path, f"holds a {type(state).__name__}, expected tensors by name")
        if {"optimizers", "iter"} <= state.keys():
            _fail(
                path,
                "is a training state without weights; give the file <step>_G.pth of the same run",
            )
        inner = (state[name] for name in _WRAPPERS if isinstance(state.get(name), Mapping))
        found = next(inner, None)
        if found is None:
            return state
        state = found
    _fail(path, f"holds dictionaries in each other, more than {_MOST_WRAPPERS}")


def _without_prefixes(path: Path, name: object) -> str:
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        shown = printable(repr(name), 60)
        expected = f"a text of at most {_LONGEST_NAME} characters"
        _fail(path, f"holds a tensor with the name {shown}, expected {expected}")
    return name[_PREFIX.match(name).end() :]


def check_total(path: Path, values: Iterable[object]) -> None:
    """Check that few tensors share data: a small file can hold one tensor under 50,000 names.

    Args:
        path: the file, for error messages.
        values: all values read from the file.

    Raises:
        CheckpointError: the tensors claim far more values than the file holds.
    """
    tensors = [v for v in values if isinstance(v, Tensor) and not v.is_meta]
    claimed = sum(tensor.nbytes for tensor in tensors)
    data = {(s := tensor.untyped_storage()).data_ptr(): s.nbytes() for tensor in tensors}
    if claimed > _SMALL + _MOST_SHARED * sum(data.values()):
        _fail(
            path,
            f"its {len(tensors)} tensors are views of the same data, in all {claimed} bytes; save "
            "each tensor with data of its own",
        )


def check_tensor(path: Path, name: str, value: object) -> None:
    """Check that a value is a dense, finite tensor whose values are all stored in the file.

    Args:
        path: the file, for error messages.
        name: name of the tensor.
        value: value read from the file.

    Raises:
        CheckpointError: names the file and the tensor.
    """
    name = printable(name, 80)
    if not isinstance(value, Tensor):
        _fail(path, f"'{name}' is a {type(value).__name__}, expected tensors by name only")
    if value.is_meta:
        _fail(path, f"tensor '{name}' has a shape but no values; save the weights again")
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        _fail(
            path,
            f"tensor '{name}' is not stored densely; no network of this project has such weights",
        )
    if value.dtype not in _FORMATS:
        _fail(path, f"tensor '{name}' is stored as {value.dtype}; get the file in float16 or wider")
    # An expanded view of a few stored bytes can have any size; copying it can exhaust the memory.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        _fail(path, f"tensor '{name}' claims more values than the file holds")
    if not torch.isfinite(value).all():
        _fail(path, f"tensor '{name}' holds NaN or infinity: training diverged")


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{printable(path, 200)}: {message}") from None
