"""Reads published weights (.pth, .safetensors) as tensors, without running code from the file."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusion.errors import CheckpointError

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # added by nn.DataParallel and torch.compile
_FORMATS = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
_AVERAGE = "ema_model."  # prefix of the averaged copy in a saved `ema_pytorch.EMA`


def read_official(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .pth file by their names in the network.

    Enclosing dictionaries and the prefix `module.` are removed. Of a saved averaging object
    (`ema_pytorch`), which contains the network twice, the averaged copy is read.

    Args:
        path: state dict saved by `torch.save`; the file need not be trusted.

    Returns:
        Tensors on the CPU, with the stored dtype.

    Raises:
        CheckpointError: the file does not exist, was not written by `torch.save`, is damaged,
            contains other objects than tensors and plain values, or contains no weights.
    """
    path = Path(path)
    state = _unwrapped(path, load_plain(path))
    if any(isinstance(name, str) and name.startswith(_AVERAGE) for name in state):
        state = {n.removeprefix(_AVERAGE): t for n, t in state.items() if n.startswith(_AVERAGE)}
    tensors = {_without_prefixes(str(name)): value for name, value in state.items()}
    for name, value in tensors.items():
        check_tensor(path, name, value)
    if not tensors:
        _fail(path, "holds no tensors")
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
    if not path.is_file():
        _fail(path, f"no such weights file; expected {expected}")
    if not is_safetensors(path):
        return read_official(path)
    return {_without_prefixes(name): tensor for name, tensor in read_safetensors(path)[0].items()}


def is_safetensors(path: Path) -> bool:
    """Whether a file is a safetensors file, by its name or its first bytes."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: the file is damaged, or `check_tensor` refuses a tensor.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        _fail(path, f"damaged or no safetensors file ({error}); download or copy it again")
    for name, tensor in tensors.items():
        check_tensor(path, name, tensor)
    return tensors, metadata


def load_plain(path: Path) -> Any:
    """Read a file written by `torch.save` that contains only tensors and plain values.

    Returns:
        The saved object, with tensors on the CPU.

    Raises:
        CheckpointError: the file does not exist, is damaged, or contains other objects.
    """
    _check_container(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of old formats
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "nsupported" not in str(error) and "Weights only" not in str(error):
            _fail(path, f"is damaged ({_first_line(error)}); download or copy it again")
        _fail(
            path,
            "holds Python objects besides tensors, refused because reading them could run code; "
            "if you trust the file, save it again with torch.save(network.state_dict(), ...)",
        )
    except Exception as error:  # a damaged file can raise any error in the reader
        _fail(path, f"is damaged or truncated ({_first_line(error)}); download or copy it again")


def _check_container(path: Path) -> None:
    if not path.is_file():
        _fail(path, "no such weights file")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        _fail(path, "is a safetensors file; give it to --weights; only .pth files are imported")
    if start[:4] != b"PK\x03\x04" and start[:1] != b"\x80":
        _fail(path, "was not written by PyTorch; expected a .pth file of the authors' release")


def _unwrapped(path: Path, state: Any) -> Mapping[Any, Any]:
    """The dictionary of named tensors inside the enclosing dictionaries."""
    if isinstance(state, Mapping) and {"optimizers", "iter"} <= state.keys():
        _fail(
            path, "is a training state without weights; give the file <step>_G.pth of the same run"
        )
    for wrapper in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            return _unwrapped(path, state[wrapper])
    if not isinstance(state, Mapping):
        _fail(path, f"holds a {type(state).__name__}, expected tensors by name")
    return state


def _without_prefixes(name: str) -> str:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return _without_prefixes(name.removeprefix(prefix))
    return name


def check_tensor(path: Path, name: str, value: object) -> None:
    """Check that a value is a dense, finite tensor whose values are all stored in the file.

    Args:
        path: the file, for error messages.
        name: name of the tensor.
        value: value read from the file.

    Raises:
        CheckpointError: names the file and the tensor.
    """
    if not isinstance(value, Tensor):
        _fail(path, f"'{name}' is a {type(value).__name__}, expected tensors by name only")
    if value.layout != torch.strided or value.is_quantized:
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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}") from None
