"""Weights of OSEDiff: LoRA adapters for a Stable Diffusion, and the first convolution of its U-Net.

Two file layouts contain the same tensors: the published `osediff.pkl`, which is read without
running code from the file, and the safetensors file of this project. The name of a tensor contains
its layer and its adapter, and its shape contains the rank. Names and the factor ALPHA / rank are
those of the published code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from refusion.errors import CheckpointError
from refusion.files import atomic_write, check_regular
from refusion.official.weights import check_tensor, check_total, read_safetensors
from refusion.stable_diffusion import StableDiffusion, lora
from refusion.tensor_files.containers import is_safetensors
from refusion.tensor_files.pickles import load_pickle

SOURCE = "osediff.pkl of github.com/cswry/OSEDiff, or model.safetensors of a run of stage osediff"
UNET_ADAPTERS = ("default_encoder", "default_decoder", "default_others")
VAE_ADAPTERS = ("default_encoder",)
PARTS = {"unet": UNET_ADAPTERS, "vae": VAE_ADAPTERS}
FIRST_CONV = "conv_in.base_layer"  # first convolution of the U-Net; all its weights are trained
FORMAT = 1
_FAMILY = "OSEDiff"
_PUBLISHED_LISTS = {  # key of osediff.pkl: part and adapter whose layers it lists
    "unet_lora_encoder_modules": ("unet", "default_encoder"),
    "unet_lora_decoder_modules": ("unet", "default_decoder"),
    "unet_lora_others_modules": ("unet", "default_others"),
    "vae_lora_encoder_modules": ("vae", "default_encoder"),
}
# Parts of the names of the adapted layers.
_UNET_LAYERS = ("to_k", "to_q", "to_v", "to_out.0", "conv", "proj_in", "proj_out", "ff.net")
_VAE_LAYERS = ("conv", "to_k", "to_q", "to_v", "to_out.0")


@dataclass(frozen=True)
class OSEDiffWeights:
    """Tensors by their names in the adapted networks.

    Attributes:
        unet: adapters of the U-Net, and its first convolution `FIRST_CONV`.
        vae: adapters of the VAE's encoder.
    """

    unet: Mapping[str, Tensor]
    vae: Mapping[str, Tensor]

    def modules(self, part: str) -> dict[str, list[str]]:
        """Names of the adapted layers, by adapter.

        Args:
            part: 'unet' or 'vae'.
        """
        found: dict[str, list[str]] = {adapter: [] for adapter in PARTS[part]}
        for name in getattr(self, part):
            layer, is_adapter, rest = name.partition(".lora_A.")
            if is_adapter:
                found.setdefault(rest.removesuffix(".weight"), []).append(layer)
        return {adapter: layers for adapter, layers in found.items() if layers}

    def rank(self, part: str) -> int:
        """Rank of the adapters.

        Args:
            part: 'unet' or 'vae'; it has an adapter.
        """
        return next(len(t) for name, t in getattr(self, part).items() if ".lora_A." in name)


def published_modules(sd: StableDiffusion) -> dict[str, dict[str, list[str]]]:
    """Names of the layers that OSEDiff adapts, by part and adapter.

    In the U-Net these are the attention layers, feed-forward layers and convolutions, in the VAE
    the attention layers and convolutions of the encoder.

    Args:
        sd: a Stable Diffusion without adapters.
    """
    found = {part: {name: [] for name in names} for part, names in PARTS.items()}
    for name in _layer_names(sd.unet, _UNET_LAYERS):
        is_down = "down_blocks" in name or "conv_in" in name
        is_up = "up_blocks" in name or "conv_out" in name
        adapter = "encoder" if is_down else "decoder" if is_up else "others"
        found["unet"][f"default_{adapter}"].append(name)
    for name in _layer_names(sd.vae, _VAE_LAYERS):
        if name == "quant_conv" or name.startswith("encoder."):
            found["vae"]["default_encoder"].append(name)
    return found


def _layer_names(network: nn.Module, parts: Sequence[str]) -> list[str]:
    """Names of linear layers and convolutions that contain one of `parts`."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and any(part in name for part in parts)
    ]


def read_osediff(path: str | Path) -> OSEDiffWeights:
    """Read the weights of OSEDiff from a file in either layout.

    Args:
        path: one of the files in `SOURCE`.

    Returns:
        Tensors on the CPU.

    Raises:
        CheckpointError: the file does not exist, is damaged, contains something else, or its parts
            contradict each other.
    """
    path = Path(path)
    if not path.exists():
        _fail(path, f"no such file; expected {SOURCE}")
    try:
        check_regular(path)
    except OSError as error:
        _fail(path, f"{error.strerror}; expected {SOURCE}")
    return _read_own_layout(path) if is_safetensors(path) else _read_published_layout(path)


def split_parts(tensors: Mapping[str, Tensor]) -> OSEDiffWeights:
    """Convert tensors with the names `unet.<name>` and `vae.<name>` to weights.

    Args:
        tensors: tensors by name; those with another prefix are ignored.
    """
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, own = name.partition(".")
        parts.get(part, {})[own] = tensor
    return OSEDiffWeights(**parts)


def save_osediff(
    path: str | Path, weights: OSEDiffWeights, info: Mapping[str, Any], dtype: torch.dtype | None
) -> None:
    """Write the weights of OSEDiff; an interrupted write leaves no partial file.

    Args:
        path: a .safetensors file; its folder is created.
        weights: tensors on any device.
        info: JSON values that are stored in the metadata of the file.
        dtype: dtype in the file; None for the dtype of each tensor.

    Raises:
        CheckpointError: the file cannot be written.
    """
    path = Path(path)
    tensors = {
        f"{part}.{name}": tensor.detach().to("cpu", dtype).contiguous()
        for part in PARTS
        for name, tensor in getattr(weights, part).items()
    }
    head = {"format": FORMAT, "family": _FAMILY, "alpha": lora.ALPHA, "info": dict(info)}
    try:
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, metadata={"refusion": json.dumps(head)})
    except (OSError, SafetensorError) as error:
        _fail(path, f"cannot be written ({error}); choose another folder")


def apply_osediff(sd: StableDiffusion, weights: OSEDiffWeights, source: str | Path) -> None:
    """Attach the adapters to a Stable Diffusion and load the weights, in place.

    Args:
        sd: a Stable Diffusion without adapters.
        weights: weights from `read_osediff`.
        source: file of the weights, for error messages.

    Raises:
        CheckpointError: the weights belong to another Stable Diffusion, or peft is not installed.
    """
    for part, adapters in PARTS.items():
        network, tensors = getattr(sd, part), getattr(weights, part)
        lora.attach(network, weights.modules(part), weights.rank(part), source)
        own = lora.parameters_of(network, adapters)
        if part == "unet":
            named = dict(network.named_parameters())
            own |= {name: named[name] for name in named if name.startswith(f"{FIRST_CONV}.")}
        _copy_parameters(own, tensors, part, Path(source))
        network.requires_grad_(False)


def _copy_parameters(
    own: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], part: str, source: Path
) -> None:
    """Copy tensors into parameters; names and shapes must be exactly those of the parameters."""
    both = own.keys() & tensors.keys()
    problems = {
        "no tensor": own.keys() - tensors.keys(),
        "an unknown tensor": tensors.keys() - own.keys(),
        "of another shape": {name for name in both if own[name].shape != tensors[name].shape},
    }
    for problem, names in problems.items():
        if names:
            _fail(
                source,
                f"does not fit this Stable Diffusion: {problem} '{part}.{min(names)}' "
                f"({len(names)} in all); use the Stable Diffusion that it was trained for",
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _read_own_layout(path: Path) -> OSEDiffWeights:
    tensors, metadata = read_safetensors(path)
    try:
        head = json.loads(metadata.get("refusion", "{}"))
    except (ValueError, RecursionError):
        _fail(path, "its 'refusion' metadata is not JSON")
    if not isinstance(head, dict) or head.get("family") != _FAMILY:
        _fail(path, f"does not contain weights of OSEDiff; expected {SOURCE}")
    if head.get("format") != FORMAT or head.get("alpha") != lora.ALPHA:
        _fail(
            path,
            f"expected format {FORMAT} and alpha {lora.ALPHA}, got {head.get('format')!r} and "
            f"{head.get('alpha')!r}; use the version of refusion that wrote the file",
        )
    for name in tensors:
        if name.partition(".")[0] not in PARTS:
            _fail(
                path,
                f"tensor '{name}' belongs to neither {' nor '.join(PARTS)}; expected {SOURCE}",
            )
    return _check_weights(path, split_parts(tensors))


def _read_published_layout(path: Path) -> OSEDiffWeights:
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        _fail(path, f"contains a {type(content).__name__}; expected {SOURCE}")
    states = {part: content.get(f"state_dict_{part}") for part in PARTS}
    for part, state in states.items():
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            _fail(path, f"has no 'state_dict_{part}'; expected {SOURCE}")
    check_total(path, [value for state in states.values() for value in state.values()])
    weights = _check_weights(
        path, OSEDiffWeights(**{p: dict(state) for p, state in states.items()})
    )
    found = {part: weights.modules(part) for part in PARTS}
    for key, (part, adapter) in _PUBLISHED_LISTS.items():
        layers = content.get(key)
        is_list = isinstance(layers, (list, tuple)) and all(isinstance(n, str) for n in layers)
        if not is_list or set(layers) != set(found[part].get(adapter, [])):
            _fail(
                path,
                f"'{key}' does not list exactly the layers that have adapters in the file; the "
                "file is damaged",
            )
    for part in PARTS:
        rank = content.get(f"rank_{part}")
        if not isinstance(rank, int) or rank != weights.rank(part):
            _fail(
                path,
                f"'rank_{part}' is not the rank of the adapters in the file, {weights.rank(part)}; "
                "the file is damaged",
            )
    return weights


def _check_weights(path: Path, weights: OSEDiffWeights) -> OSEDiffWeights:
    """Return the weights if all adapters are those of OSEDiff; they may belong to any layers."""
    for part, adapters in PARTS.items():
        tensors = getattr(weights, part)
        for name, tensor in tensors.items():
            check_tensor(path, name, tensor)
            if ".lora_A." in name and not (tensor.ndim and len(tensor)):
                _fail(path, f"adapter '{name}' has rank 0 or is a scalar; the file is damaged")
        found = weights.modules(part).keys()
        if not found:
            _fail(path, f"contains no adapters of the {part}; expected {SOURCE}")
        if unknown := found - set(adapters):
            _fail(
                path,
                f"contains the unknown adapter '{min(unknown)}' of the {part}; expected "
                f"{', '.join(adapters)}",
            )
    return weights


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}") from None
