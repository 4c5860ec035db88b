"""One file per model: safetensors, with the config that is needed to build its networks.

The names of tensors are `network.<name>` and `latent_unet.<name>`. The metadata key `refusion`
contains JSON, `{format, task, config, info}`. A file may come from an unknown source: reading it
never runs code from it. In a folder as the Hugging Face Hub has it, the config is `config.json`.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from refusion.checkpoint.shapes import PARTS, check_size, expected_shapes, fail
from refusion.config import ModelConfig, config_to_dict, model_config_from_dict
from refusion.config.plugins import first_names, import_allowed_plugins, missing_plugins
from refusion.config.yaml_text import MAX_DEPTH
from refusion.errors import CheckpointError, ConfigError, one_line, printable
from refusion.files import as_path, atomic_write
from refusion.tensor_files.containers import check_safetensors
from refusion.tensor_files.model_folder import CONFIG, WEIGHTS, read_config

FORMAT = 1
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)
_NAME_ERRORS = (errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.EINVAL, errno.EACCES,
                errno.EPERM, errno.EROFS)  # fmt: skip
_OF_PICKLE = (
    "expected a .safetensors checkpoint of this project; the authors' released .pth become one by "
    "'refusion import'"
)


@dataclass(frozen=True)
class Checkpoint:
    """Content of a weights file.

    Attributes:
        model: the config that the networks are built from.
        tensors: by name, `network.*` and `latent_unet.*`, on the CPU, in the stored dtype.
        info: any JSON values about the training (steps, seed, scores), for the user.
        path: the file.
    """

    model: ModelConfig
    tensors: dict[str, Tensor]
    info: dict[str, Any]
    path: Path


def save_checkpoint(
    path: str | Path,
    model: ModelConfig | Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    info: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a weights file; if this is interrupted the old file is unchanged.

    Args:
        path: file to write; its folder is created.
        model: the config that the networks are built from, or its YAML section as a mapping.
        tensors: by name, `network.*` and `latent_unet.*`, on any device.
        info: JSON values about the training, stored with the weights.
        dtype: dtype of the stored floating-point tensors (float16 or bfloat16 halve the size of the
            file); None keeps their dtype.

    Raises:
        CheckpointError: a tensor has another name, or is not finite in `dtype`, or the file cannot
            be written.
        ConfigError: `model` is a mapping with a wrong key or value.
    """
    path = as_path(path, "weights: expected a file to write", CheckpointError)
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
        with atomic_write(path) as temporary:
            save_file(stored, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error, 100)
        is_name_wrong = getattr(error, "errno", None) in _NAME_ERRORS
        advice = (
            "choose another name" if is_name_wrong else "free disk space or choose another folder"
        )
        fail(path, f"cannot be written ({reason}); {advice}")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weights file, which may come from an unknown source.

    A file may name the plug-ins that define its networks. Only plug-ins that the user allowed are
    imported; see `refusion.config.plugins`.

    Args:
        path: the file, or a folder with `model.safetensors` and `config.json`. In a folder the
            config is that of `config.json`, so the tensors may be written by any library.

    Raises:
        CheckpointError: the file is not safetensors, is truncated, was not written by this project,
            has another format number or a wrong config, needs a plug-in that is not imported, or is
            larger than its networks; or a tensor has a wrong name, an unexpected dtype or values
            that are not finite.
    """
    path, config = as_path(path, "weights: expected a file or a folder", CheckpointError), None
    if path.is_dir():
        path, config = path / WEIGHTS, read_config(path)
    check_safetensors(path, _OF_PICKLE)
    import_allowed_plugins()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            model, info = _parse_head(path, metadata, config)
            check_size(path, expected_shapes(path, model))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = one_line(error, 100)
        fail(path, f"damaged or truncated safetensors file ({reason}); download or copy it again")
    _check_tensors(path, tensors)
    return Checkpoint(model, tensors, info, path)


def is_own_file(path: Path) -> bool:
    """Whether a file is a weights file of this project; in a folder, its config may say so.

    Args:
        path: any path, also of a file that does not exist or is damaged.
    """
    try:
        check_safetensors(path, _OF_PICKLE)
        with safe_open(path, framework="pt") as file:
            if "refusion" in (file.metadata() or {}):
                return True
        # The libraries of the hub write a model of this project without these metadata.
        return bool(_parse_head(path, {}, read_config(path.parent)))
    except (CheckpointError, SafetensorError, OSError):
        return False


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    chosen = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    # A clone, because safetensors rejects tensors that share memory (tied weights).
    return tensor.detach().to("cpu", chosen).clone(memory_format=torch.contiguous_format)


def _parse_head(
    path: Path, metadata: Mapping[str, str], config: object = None
) -> tuple[ModelConfig, dict[str, Any]]:
    """Config and training summary of a file; `config` replaces the one in its metadata."""
    if config is not None:
        info = _parse_head(path, metadata)[1] if "refusion" in metadata else {}
        return _parse_config(path.with_name(CONFIG), config, ""), info
    if "refusion" not in metadata:
        fail(
            path,
            "has no 'refusion' metadata: it was not written by this project; weights in the "
            "authors' layout become a checkpoint by 'refusion import --net FILE -o OUTPUT'",
        )
    try:
        head = json.loads(metadata["refusion"])
    except (ValueError, RecursionError):
        fail(path, "its 'refusion' metadata is not JSON")
    if not isinstance(head, dict) or "format" not in head:
        fail(path, "its 'refusion' metadata has no format number")
    if head["format"] != FORMAT or isinstance(head["format"], bool):
        fail(
            path,
            f"has checkpoint format {str(head['format'])[:20]}; this version reads format {FORMAT}:"
            " use the version of refusion that wrote it, or a newer one",
        )
    model = _parse_config(path, head.get("config"), " (stored config)")
    info = head.get("info", {})
    if _depth(info) > MAX_DEPTH:
        fail(path, f"its information has more than {MAX_DEPTH} levels")
    if head.get("task") != model.task or not isinstance(info, dict):
        fail(path, "its 'refusion' metadata contradicts itself (task or info)")
    return model, info


def _parse_config(path: Path, config: object, place: str) -> ModelConfig:
    try:
        return model_config_from_dict(config, f"{path}{place}")
    except ConfigError as error:
        _check_plugins(path, config)
        raise CheckpointError(
            f"{error}. A newer version of refusion may have written this file"
        ) from None


def _depth(value: object) -> int:
    """Levels of nested JSON values."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        parts = [list(v.values()) if isinstance(v, dict) else v for v in level]
        level = [item for part in parts if isinstance(part, list) for item in part]
    return depth


def _check_plugins(path: Path, config: object) -> None:
    """Raise an error that names the missing plug-ins of a stored config, without importing them."""
    named = config.get("plugins") if isinstance(config, dict) else None
    try:
        missing = missing_plugins(named) if isinstance(named, list) else []
    except ConfigError as error:
        fail(path, f"stored config: {error}")
    if missing:
        one = len(missing) == 1
        needed = "the plug-in {}, which is" if one else "the plug-ins {}, which are"
        first = missing[0]
        fail(
            path,
            f"needs {needed.format(first_names(missing))} not imported because a weights file may "
            f"come from anyone; if you trust {'this module' if one else 'these modules'}, allow "
            f"{'it' if one else 'each'}: --plugin {first}, load_restorer(..., plugins=['{first}']) "
            f"or REFUSION_PLUGINS={first}",
        )


def _check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for full_name, tensor in tensors.items():
        name = printable(full_name, 80)
        if name.split(".", 1)[0] not in PARTS or "." not in name:
            fail(path, f"tensor '{name}' is not called network.* or latent_unet.*")
        if tensor.dtype not in _DTYPES:
            fail(path, f"tensor '{name}' has dtype {tensor.dtype}, which no network here uses")
        if not torch.isfinite(tensor).all():
            fail(
                path,
                f"tensor '{name}' holds NaN or infinity ({tensor.dtype}): training diverged, or "
                "a value exceeds the storage dtype",
            )
