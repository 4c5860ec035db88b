"""One self-describing file per model: safetensors, with the config that rebuilds its networks.

Tensors are called `network.<name>` and `latent_unet.<name>`; the metadata key `refusion` holds JSON
`{format, task, config, info}`. Files may come from anywhere: reading one never runs code from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from refusion.config import ModelConfig, config_to_dict, find_table, model_config_from_dict
from refusion.errors import CheckpointError, ConfigError, suggest
from refusion.files import written_whole
from refusion.schema import Component

FORMAT = 1
PARTS = ("network", "latent_unet")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)
ONE_STEP = "_one_step"  # ends the names of shipped weights that were distilled for one step
_MAX_HEADER = 16 * 2**20  # bytes; the largest network here needs under 1 MiB
_MAX_SETTING = 4096  # channels or blocks: far above any real network, far below exhausting memory


@dataclass(frozen=True)
class Checkpoint:
    """Content of a weights file.

    `tensors` are named `network.*` and `latent_unet.*`, on the CPU, in the stored dtype; `info` is
    free-form (steps, seed, scores), for people.
    """

    model: ModelConfig
    tensors: dict[str, Tensor]
    info: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class Model:
    """Networks in evaluation mode, float32, frozen, on the CPU, and the config they came with."""

    network: nn.Module | None
    latent_unet: nn.Module | None
    config: ModelConfig


def save_checkpoint(
    path: str | Path,
    model: ModelConfig | Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    info: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a weights file whole or not at all: an interrupted save leaves the old file.

    Args:
        path: file to write; its folder is created.
        model: what inference must know.
        tensors: `network.*` and `latent_unet.*`, on any device.
        info: JSON values to keep with the weights.
        dtype: store floating-point tensors so (float16 or bfloat16 halve the file); None as is.

    Raises:
        CheckpointError: a tensor is called otherwise or is not finite in `dtype`.
        ConfigError: `model` is given as a mapping and is wrong.
    """
    path = Path(path)
    model = model if isinstance(model, ModelConfig) else model_config_from_dict(model, str(path))
    stored = {name: _stored(tensor, dtype) for name, tensor in tensors.items()}
    _check_tensors(path, stored)
    head = {
        "format": FORMAT,
        "task": model.task,
        "config": config_to_dict(model),
        "info": dict(info),
    }
    metadata = {"refusion": json.dumps(head)}
    try:
        with written_whole(path) as aside:
            save_file(stored, aside, metadata=metadata)
    except (OSError, SafetensorError) as error:
        _fail(path, f"cannot be written ({error}); choose another place")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weights file from anywhere.

    Raises:
        CheckpointError: not safetensors, truncated, not of this project, of another format number,
            a wrong config, or tensors that are misnamed, of an odd dtype or not finite.
    """
    path = Path(path)
    _check_container(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            model, info = _parse_head(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        _fail(path, f"damaged or truncated safetensors file ({error}); download or copy it again")
    _check_tensors(path, tensors)
    return Checkpoint(model, tensors, info, path)


def build_model(checkpoint: Checkpoint) -> Model:
    """Build the networks a checkpoint describes and load its tensors, every name and shape exact.

    Raises:
        CheckpointError: tensors missing, left over or of another shape; settings no network has.
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


def find_weights(
    task_or_path: str | Path, folder: Path | None = None, steps: int | None = None
) -> Path:
    """Find a weights file: an existing path, else the default weights of a task.

    Args:
        task_or_path: 'dehaze', or a path to a .safetensors file.
        folder: where default weights lie; None for those shipped with the package.
        steps: network evaluations they are for; with 1, weights of the task that were distilled for
            it (<task>_one_step) come first, where there are any.

    Raises:
        CheckpointError: no such file, or no default weights for the task (lists those there are).
    """
    path = Path(task_or_path)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) != 1:
        raise CheckpointError(f"{path}: no such weights file")
    shipped = shipped_weights(folder)
    distilled = shipped.get(path.name + ONE_STEP)
    if steps == 1 and distilled is not None:
        return distilled
    if path.name not in shipped:
        hint = suggest(path.name, shipped) if shipped else "; this installation ships none"
        listed = f" (shipped: {', '.join(sorted(shipped))})" if "did you mean" in hint else ""
        raise CheckpointError(f"no default weights for task '{task_or_path}'{hint}{listed}")
    return shipped[path.name]


def shipped_weights(folder: Path | None = None) -> dict[str, Path]:
    """Default weights by task, sorted; `folder` as in `find_weights`."""
    folder = folder or Path(str(resources.files("refusion") / "weights"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}") from None


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    chosen = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    # cloned: safetensors refuses tensors that share memory, as tied weights do
    return tensor.detach().to("cpu", chosen).clone(memory_format=torch.contiguous_format)


def _check_container(path: Path) -> None:
    """Refuse what is no safetensors file before any parser sees it."""
    if not path.is_file():
        _fail(path, "no such weights file")
    with path.open("rb") as file:
        start = file.read(9)
    header, size = int.from_bytes(start[:8], "little"), path.stat().st_size
    if start[8:] != b"{" or header > _MAX_HEADER:
        # Asked only now: a good header's length may begin with the bytes of a pickle.
        if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
            _fail(
                path,
                "is a PyTorch pickle (.pth, .pt, .ckpt), which can run code when loaded; "
                "expected a .safetensors checkpoint of this project; the authors' released .pth "
                "become one by 'refusion import'",
            )
        _fail(path, f"is not a safetensors file (its header would be {header} bytes long)")
    if 8 + header > size:
        _fail(path, f"is truncated: {size} bytes, its header alone needs {8 + header}")


def _parse_head(path: Path, metadata: Mapping[str, str]) -> tuple[ModelConfig, dict[str, Any]]:
    if "refusion" not in metadata:
        _fail(path, "has no 'refusion' metadata: it was not written by this project")
    try:
        head = json.loads(metadata["refusion"])
    except (ValueError, RecursionError):
        _fail(path, "its 'refusion' metadata is not JSON")
    if not isinstance(head, dict) or "format" not in head:
        _fail(path, "its 'refusion' metadata has no format number")
    if head["format"] != FORMAT or isinstance(head["format"], bool):
        _fail(
            path,
            f"has checkpoint format {str(head['format'])[:20]}; this version reads format {FORMAT}:"
            " use the version of refusion that wrote it, or a newer one",
        )
    try:
        model = model_config_from_dict(head.get("config"), f"{path} (stored config)")
    except ConfigError as error:
        raise CheckpointError(
            f"{error}. A newer version of refusion may have written this file"
        ) from None
    info = head.get("info", {})
    if head.get("task") != model.task or not isinstance(info, dict):
        _fail(path, "its 'refusion' metadata contradicts itself (task or info)")
    return model, info


def _check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.split(".", 1)[0] not in PARTS or "." not in name:
            _fail(path, f"tensor '{name}' is not called network.* or latent_unet.*")
        if tensor.dtype not in _DTYPES:
            _fail(path, f"tensor '{name}' has dtype {tensor.dtype}, which no network here uses")
        if not torch.isfinite(tensor).all():
            _fail(
                path,
                f"tensor '{name}' holds NaN or infinity ({tensor.dtype}): training diverged, or "
                "a value exceeds the storage dtype",
            )


def _expected_shapes(path: Path, part: str, component: Component) -> dict[str, torch.Size]:
    """Shapes of a network built without memory, so a forged config cannot exhaust it."""
    for key, value in component.settings.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if sum(abs(n) for n in numbers if isinstance(n, int)) > _MAX_SETTING:
            _fail(path, f"stored config: {part}.{key} = {value} exceeds {_MAX_SETTING}")
    try:
        with torch.device("meta"):
            net = find_table("nets")[component.type](**component.settings)
    except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
        _fail(path, f"stored config: {part} cannot be built: {error}")
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
        _fail(
            checkpoint.path,
            f"its tensors do not fit its stored config. {lines}. Use the file as it was written, "
            "with the version of refusion that wrote it",
        )


def _first(names: Iterable[str], limit: int = 3) -> str:
    names = sorted(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _load(part: str, component: Component, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build one network for real and fill it; the values are cast to float32."""
    with torch.random.fork_rng(devices=[]):  # the first weights, soon replaced, are random
        net = find_table("nets")[component.type](**component.settings)
    prefix = f"{part}."
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    net.load_state_dict(own, strict=True)
    return net.float().eval().requires_grad_(False)
