"""Import of unconditional checkpoints of guided-diffusion (ADM, .pt) as priors for DDRM.

`UnconditionalUNet` uses the same tensor names. Its settings are derived from the shapes of the
tensors, except the image size and the channels of an attention head, which are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from refusion.checkpoint import Checkpoint, build_model
from refusion.config import model_config_from_dict
from refusion.errors import CheckpointError, printable
from refusion.official.weights import read_official

_BLOCK = re.compile(r"input_blocks\.([0-9]{1,3})\.")
_FIRST, _LAST = "input_blocks.0.0.weight", "out.2.weight"


def import_adm(path: str | Path, *, image_size: int = 256, head_channels: int = 64) -> Checkpoint:
    """Import an unconditional ADM checkpoint; `save_checkpoint` writes the result.

    Args:
        path: file saved by `torch.save`; no code from the file is run.
        image_size: side of the training images in pixels.
        head_channels: channels of an attention head, 64 in the published models.

    Returns:
        A checkpoint of the task `ddrm_prior`.

    Raises:
        CheckpointError: the file cannot be read, or it contains another network, a network with
            class conditioning, or one without time-dependent scale and shift or without residual
            blocks for resampling.
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
    build_model(found)  # raises if names or shapes do not fit
    return found


def adm_settings(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Derive the settings of `UnconditionalUNet` from the shapes of its weights.

    Args:
        path: the file, for error messages.
        tensors: state dict of the network.

    Returns:
        Keyword arguments of `UnconditionalUNet`, without the image size and the head channels.

    Raises:
        CheckpointError: the weights belong to another network.
    """
    if _FIRST not in tensors or _LAST not in tensors:
        _fail(path, f"it has no tensors '{_FIRST}' and '{_LAST}'")
    if tensors[_FIRST].ndim != 4 or tensors[_LAST].ndim != 4 or 0 in tensors[_FIRST].shape:
        _fail(path, f"'{_FIRST}' and '{_LAST}' are not convolutions")
    if any(name.startswith("label_emb.") for name in tensors):
        _fail(path, "it has a class condition (label_emb); give an unconditional model")
    blocks = [match for name in tensors if (match := _BLOCK.match(name))]
    count = 1 + max(int(match[1]) for match in blocks)
    # The coarsest level ends with the first output block that doubles the resolution.
    doubling = [
        number
        for number in range(count)
        if any(f"output_blocks.{number}.{k}.in_layers.2.weight" in tensors for k in (1, 2))
    ]
    per_level = 1 + (doubling[0] if doubling else count - 1)
    if count % per_level:
        _fail(path, "it halves the size with plain convolutions or has another layout of levels")
    base = len(tensors[_FIRST])
    mult, attention = [], []
    for level in range(count // per_level):
        block = f"input_blocks.{1 + level * per_level}"
        weight = tensors.get(f"{block}.0.in_layers.2.weight")
        time = tensors.get(f"{block}.0.emb_layers.1.weight")
        is_timed = weight is not None and time is not None and min(weight.ndim, time.ndim) > 0
        if not is_timed or len(time) != 2 * len(weight):
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
    raise CheckpointError(
        f"{printable(path, 200)}: not an unconditional ADM of guided-diffusion: {message}"
    )
