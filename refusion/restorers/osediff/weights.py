"""What OSEDiff adds to a Stable Diffusion: adapters, and a first convolution trained in full.

Files: the authors' (`osediff.pkl`, read without running code from it) and this project's, a
safetensors of the same tensors. The names of the tensors say which layers are adapted and by which
adapter, their shapes the ranks; names and the factor ALPHA / rank are the authors'.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from refusion.errors import CheckpointError
from refusion.files import atomic_write
from refusion.official.weights import check_tensor, is_safetensors, load_plain, read_safetensors
from refusion.stable_diffusion import StableDiffusion, lora

SOURCE = "osediff.pkl of github.com/cswry/OSEDiff, or model.safetensors of a run of stage osediff"
UNET_ADAPTERS = ("default_encoder", "default_decoder", "default_others")
VAE_ADAPTERS = ("default_encoder",)
PARTS = {"unet": UNET_ADAPTERS, "vae": VAE_ADAPTERS}
FIRST = "conv_in.base_layer"  # of the U-Net: trained in full
FORMAT = 1
_FAMILY = "OSEDiff"
_LISTS = {  # of the authors' file: part, adapter
    "unet_lora_encoder_modules": ("unet", "default_encoder"),
    "unet_lora_decoder_modules": ("unet", "default_decoder"),
    "unet_lora_others_modules": ("unet", "default_others"),
    "vae_lora_encoder_modules": ("vae", "default_encoder"),
}
_UNET_WORDS = ("to_k", "to_q", "to_v", "to_out.0", "conv", "proj_in", "proj_out", "ff.net")
_VAE_WORDS = ("conv", "to_k", "to_q", "to_v", "to_out.0")


@dataclass(frozen=True)
class OSEDiffWeights:
    """Tensors by their names in the adapted networks, on the CPU.

    Attributes:
        unet: adapters of the U-Net, and its first convolution `FIRST`.
        vae: adapters of the VAE's encoder.
    """

    unet: Mapping[str, Tensor]
    vae: Mapping[str, Tensor]

    def modules(self, part: str) -> dict[str, list[str]]:
        """Adapted layers of `unet` or `vae` by adapter."""
        found: dict[str, list[str]] = {adapter: [] for adapter in PARTS[part]}
        for name in getattr(self, part):
            layer, is_adapter, rest = name.partition(".lora_A.")
            if is_adapter:
                found.setdefault(rest.removesuffix(".weight"), []).append(layer)
        return {adapter: layers for adapter, layers in found.items() if layers}

    def rank(self, part: str) -> int:
        """Rank of the adapters of `unet` or `vae`."""
        return next(len(t) for name, t in getattr(self, part).items() if ".lora_A." in name)


def published_modules(sd: StableDiffusion) -> dict[str, dict[str, list[str]]]:
    """The layers that OSEDiff adapts: part -> adapter -> names.

    Of the U-Net attention, feed-forward layers and convolutions, of the VAE its encoder's.
    """
    found = {part: {name: [] for name in names} for part, names in PARTS.items()}
    for name, module in sd.unet.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and any(w in name for w in _UNET_WORDS):
            is_down = "down_blocks" in name or "conv_in" in name
            is_up = "up_blocks" in name or "conv_out" in name
            side = "encoder" if is_down else "decoder" if is_up else "others"
            found["unet"][f"default_{side}"].append(name)
    for name, module in sd.vae.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and (
            name == "quant_conv"
            or (name.startswith("encoder.") and any(word in name for word in _VAE_WORDS))
        ):
            found["vae"]["default_encoder"].append(name)
    return found


def read_osediff(path: str | Path) -> OSEDiffWeights:
    """Read the adapters of a file from anywhere.

    Args:
        path: `SOURCE`.

    Raises:
        CheckpointError: no such file, damaged, of something else, or contradicting itself.
    """
    path = Path(path)
    if not path.is_file():
        _fail(path, f"no such file; expected {SOURCE}")
    return _read_ours(path) if is_safetensors(path) else _read_theirs(path)


def split_parts(tensors: Mapping[str, Tensor]) -> OSEDiffWeights:
    """Weights of tensors that are called `unet.<name>` and `vae.<name>`."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, own = name.partition(".")
        parts.get(part, {})[own] = tensor
    return OSEDiffWeights(**parts)


def save_osediff(
    path: str | Path, weights: OSEDiffWeights, info: Mapping[str, Any], dtype: torch.dtype | None
) -> None:
    """Write adapters whole or not at all.

    Args:
        path: a .safetensors file; its folder is created.
        weights: on any device.
        info: JSON values to keep with them.
        dtype: to store them in; None as they are.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = Path(path)
    tensors = {
        f"{part}.{name}": tensor.detach().to("cpu", dtype).contiguous()
        for part in PARTS
        for name, tensor in getattr(weights, part).items()
    }
    head = {"format": FORMAT, "family": _FAMILY, "alpha": lora.ALPHA, "info": dict(info)}
    try:
        with atomic_write(path) as aside:
            save_file(tensors, aside, metadata={"refusion": json.dumps(head)})
    except (OSError, SafetensorError) as error:
        _fail(path, f"cannot be written ({error}); choose another place")


def apply_osediff(sd: StableDiffusion, weights: OSEDiffWeights, source: str | Path) -> None:
    """Adapt a Stable Diffusion in place.

    Args:
        sd: without adapters.
        weights: of `read_osediff`.
        source: what errors name.

    Raises:
        CheckpointError: they are of another Stable Diffusion, or peft is missing.
    """
    for part, adapters in PARTS.items():
        network, tensors = getattr(sd, part), getattr(weights, part)
        lora.attach(network, weights.modules(part), weights.rank(part), source)
        own = lora.parameters_of(network, adapters)
        if part == "unet":
            named = dict(network.named_parameters())
            own |= {name: named[name] for name in named if name.startswith(f"{FIRST}.")}
        _fill(own, tensors, part, Path(source))
        network.requires_grad_(False)


def _fill(
    own: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], part: str, source: Path
) -> None:
    """Copy tensors into parameters, every name and shape exact."""
    for what, names in {
        "no tensor": own.keys() - tensors.keys(),
        "an unknown tensor": tensors.keys() - own.keys(),
        "of another shape": {
            name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape
        },
    }.items():
        if names:
            _fail(
                source,
                f"does not fit this Stable Diffusion: {what} '{part}.{sorted(names)[0]}' "
                f"({len(names)} in all); use the one that it was trained for",
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _read_ours(path: Path) -> OSEDiffWeights:
    tensors, metadata = read_safetensors(path)
    try:
        head = json.loads(metadata.get("refusion", "{}"))
    except (ValueError, RecursionError):
        _fail(path, "its 'refusion' metadata is not JSON")
    if not isinstance(head, dict) or head.get("family") != _FAMILY:
        _fail(path, f"is no adapter of OSEDiff; expected {SOURCE}")
    if head.get("format") != FORMAT or head.get("alpha") != lora.ALPHA:
        _fail(path, f"has another format than {FORMAT}: use the version of refusion that wrote it")
    for name in tensors:
        if name.partition(".")[0] not in PARTS:
            _fail(path, f"tensor '{name}' is of neither {' nor '.join(PARTS)}; expected {SOURCE}")
    return _checked(path, split_parts(tensors))


def _read_theirs(path: Path) -> OSEDiffWeights:
    content = load_plain(path)
    if not isinstance(content, Mapping):
        _fail(path, f"holds a {type(content).__name__}; expected {SOURCE}")
    states = {part: content.get(f"state_dict_{part}") for part in PARTS}
    for part, state in states.items():
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            _fail(path, f"has no 'state_dict_{part}'; expected {SOURCE}")
    weights = _checked(path, OSEDiffWeights(**{p: dict(state) for p, state in states.items()}))
    found = {part: weights.modules(part) for part in PARTS}
    for key, (part, adapter) in _LISTS.items():
        said = content.get(key)
        is_list = isinstance(said, (list, tuple)) and all(isinstance(name, str) for name in said)
        if not is_list or set(said) != set(found[part].get(adapter, [])):
            _fail(path, f"its '{key}' does not name the layers whose adapters it holds")
    for part in PARTS:
        rank = content.get(f"rank_{part}")
        if not isinstance(rank, int) or rank != weights.rank(part):
            _fail(path, f"its 'rank_{part}' is not that of its adapters")
    return weights


def _checked(path: Path, weights: OSEDiffWeights) -> OSEDiffWeights:
    """The weights, if they are adapters of OSEDiff, of whatever layers."""
    for part, adapters in PARTS.items():
        tensors = getattr(weights, part)
        for name, tensor in tensors.items():
            check_tensor(path, name, tensor)
            if ".lora_A." in name and not (tensor.ndim and len(tensor)):
                _fail(path, f"adapter '{name}' has no rank")
        found = weights.modules(part).keys()
        if not found:
            _fail(path, f"holds no adapters of the {part}; expected {SOURCE}")
        if unknown := found - set(adapters):
            _fail(
                path, f"holds an adapter '{min(unknown)}' of the {part}, which is none of OSEDiff's"
            )
    return weights


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}") from None
