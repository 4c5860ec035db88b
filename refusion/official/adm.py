"""Unconditional checkpoints of guided-diffusion (ADM, .pt) as priors of DDRM.

`UnconditionalUNet` has their names, so only its settings have to be found: they are read off the
shapes, except for the size of the pictures and the channels of a head, which shapes do not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from refusion.checkpoint import Checkpoint, build_model
from refusion.config import model_config_from_dict
from refusion.errors import CheckpointError
from refusion.official.weights import read_official

_FIRST, _LAST = "input_blocks.0.0.weight", "out.2.weight"


def import_adm(path: str | Path, *, image_size: int = 256, head_channels: int = 64) -> Checkpoint:
    """Make a prior of an unconditional ADM checkpoint; `save_checkpoint` writes it.

    Args:
        path: file saved by `torch.save`; nothing in it is run.
        image_size: side in pixels of the pictures it was trained on.
        head_channels: channels of an attention head, 64 in the published models.

    Raises:
        CheckpointError: it cannot be read, or is no such network: another one, one told a class,
            or one without time-dependent scale and shift or residual resampling.
    """
    path = Path(path)
    tensors = read_official(path)
    settings = adm_settings(path, tensors)
    network = {"type": "UnconditionalUNet", "image_size": image_size, **settings}
    raw = {
        "task": "ddrm_prior",
        "network": {**network, "head_channels": head_channels},
        "sde": {"type": "VPSDE"},
        "prediction": "noise",
        "sampling": {"sampler": "posterior", "steps": 20},
    }
    named = {f"network.{name}": tensor for name, tensor in tensors.items()}
    found = Checkpoint(model_config_from_dict(raw, str(path)), named, {"source": path.name}, path)
    build_model(found)  # refuses names and shapes that do not fit
    return found


def adm_settings(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of `UnconditionalUNet` that the shapes of its weights tell.

    Raises:
        CheckpointError: they are of another network.
    """
    if _FIRST not in tensors or _LAST not in tensors:
        _fail(path, f"has no tensors '{_FIRST}' and '{_LAST}'")
    if any(name.startswith("label_emb.") for name in tensors):
        _fail(path, "is told a class (label_emb); an unconditional model is needed")
    count = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("input_blocks."))
    # The first output block that also doubles the size ends the coarsest level.
    doubling = [
        number
        for number in range(count)
        if any(f"output_blocks.{number}.{k}.in_layers.2.weight" in tensors for k in (1, 2))
    ]
    per_level = 1 + (doubling[0] if doubling else count - 1)
    if count % per_level:
        _fail(path, "halves the size by plain convolutions or has another layout of levels")
    base = len(tensors[_FIRST])
    mult, attention = [], []
    for level in range(count // per_level):
        block = f"input_blocks.{1 + level * per_level}"
        weight = tensors.get(f"{block}.0.in_layers.2.weight")
        time = tensors.get(f"{block}.0.emb_layers.1.weight")
        if weight is None or time is None or len(time) != 2 * len(weight):
            _fail(path, f"{block} has no time-dependent scale and shift")
        mult.append(len(weight) // base)
        if f"{block}.1.qkv.weight" in tensors:
            attention.append(2**level)
    return {
        "model_channels": base,
        "channel_mult": mult,
        "num_res_blocks": per_level - 1,
        "attention_resolutions": attention,
        "out_channels": len(tensors[_LAST]),
    }


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: no unconditional ADM of guided-diffusion: {message}")
