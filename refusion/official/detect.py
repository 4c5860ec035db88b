"""Detects the network of a published state dict from the names and shapes of its tensors.

All settings can be detected except the `wiring` of `ConditionalNAFNet`: both wirings have the same
tensors. The detected network is built on the meta device, and all its tensor shapes are compared
with those of the state dict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from refusion.config.networks import network_shapes
from refusion.config.parser import Component
from refusion.errors import CheckpointError, ConfigError, printable

_KINDS = {  # name of a tensor that only one network has: key of that network in `NETS`
    "latent_conv.weight": "LatentUNet",
    "intro.weight": "ConditionalNAFNet",
    "mid_block1.block1.proj.weight": "ConditionalUNet",
    "conv_first.1.weight": "SwinIR",
}


def part_of(state: Mapping[str, Tensor], path: str | Path) -> str:
    """The part of a model that the tensors belong to: `network` or `latent_unet`.

    Args:
        state: tensors by their published names, as `read_official` returns them.
        path: the file, for error messages.

    Raises:
        CheckpointError: the network is unknown.
    """
    kind = _kind(_Shapes(state, Path(path)))
    return "latent_unet" if kind == "LatentUNet" else "network"


def detect_network(state: Mapping[str, Tensor], path: str | Path) -> Component:
    """Detect the type and settings of a noise network, or of the first stage of DiffBIR.

    The setting `wiring` of `ConditionalNAFNet` cannot be detected and is left out.

    Args:
        state: tensors by their published names, as `read_official` returns them.
        path: the file, for error messages.

    Raises:
        CheckpointError: the tensors belong to a latent U-Net, to an unknown network, or to an
            unpublished variant of a known network (the message names the first difference).
    """
    state = _Shapes(state, Path(path))
    kind = _kind(state)
    if kind == "LatentUNet":
        state.fail(
            "is a latent U-Net, not a noise network; give it as --latent, and give the network "
            "that was trained in its latent as --net"
        )
    read = {"ConditionalNAFNet": _nafnet, "ConditionalUNet": _unet, "SwinIR": _swinir}[kind]
    return _checked(state, Component(kind, read(state)))


def detect_latent_unet(state: Mapping[str, Tensor], path: str | Path) -> Component:
    """Detect the settings of a latent U-Net; arguments and errors as in `detect_network`."""
    state = _Shapes(state, Path(path))
    kind = _kind(state)
    if kind != "LatentUNet":
        state.fail(f"is a {kind}, not a latent U-Net; give it as --net")
    return _checked(state, Component(kind, _latent_unet(state)))


class _Shapes:
    """Tensor shapes of a file by name; errors name the file."""

    def __init__(self, state: Mapping[str, Tensor], path: Path) -> None:
        self.shapes = {name: tensor.shape for name, tensor in state.items()}
        self.path = path

    def __getitem__(self, name: str) -> torch.Size:
        """Shape (out, in, rows, columns) of a convolution's weight."""
        return self.of(name, 4, "convolution")

    def of(self, name: str, dims: int, kind: str = "tensor") -> torch.Size:
        """Shape of a tensor with `dims` dimensions."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) != dims or 0 in shape:
            self.fail(f"has no {kind} '{name}', so it is no published network")
        return shape

    def count(self, pattern: str) -> int:
        """Number of different indices at the place of {} in the names."""
        regex = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
        return len({match[1] for name in self.shapes if (match := regex.fullmatch(name))})

    def fail(self, message: str) -> NoReturn:
        """Raise a CheckpointError that starts with the path."""
        raise CheckpointError(f"{printable(self.path, 200)}: {message}")


def _kind(state: _Shapes) -> str:
    """Key of the network in `NETS`."""
    for name, kind in _KINDS.items():
        if name in state.shapes:
            return kind
    names = ", ".join(printable(name, 60) for name in sorted(state.shapes)[:3])
    state.fail(f"is no network of the authors' release (its tensors: {names}, ...)")


def _conditional(state: _Shapes, inputs: int, channels: int) -> bool:
    """Whether the first layer has the degraded image as input in addition to the state."""
    if inputs not in (channels, 2 * channels):
        state.fail(
            f"its first layer has {inputs} input channels and its last layer {channels} output "
            f"channels; expected {2 * channels} input channels, or {channels} for Gaussian noise"
        )
    return inputs == 2 * channels


def _nafnet(state: _Shapes) -> dict[str, Any]:
    (width, inputs, *_), (channels, *_) = state["intro.weight"], state["ending.weight"]
    levels = state.count("downs.{}.weight")
    return {
        "img_channel": channels,
        "width": width,
        "enc_blk_nums": [state.count(f"encoders.{i}.{{}}.beta") for i in range(levels)],
        "middle_blk_num": state.count("middle_blks.{}.beta"),
        "dec_blk_nums": [state.count(f"decoders.{i}.{{}}.beta") for i in range(levels)],
        "lens": "cam_mlp.0.weight" in state.shapes,
        "stereo": any(".fusion." in name for name in state.shapes),
        "conditional": _conditional(state, inputs, channels),
    }


def _unet(state: _Shapes) -> dict[str, Any]:
    (nf, inputs, *_), (channels, *_) = state["init_conv.weight"], state["final_conv.weight"]
    softmax = "mid_attn.fn.fn.to_out.weight" in state.shapes
    return {
        "in_nc": channels,
        "out_nc": channels,
        "nf": nf,
        "depth": state.count("downs.{}.3.weight"),
        "conditional": _conditional(state, inputs, channels),
        "mid_attention": "softmax" if softmax else "linear",
    }


def _latent_unet(state: _Shapes) -> dict[str, Any]:
    ch, in_ch, *_ = state["init_conv.weight"]
    levels = state.count("encoder.{}.3.weight")
    wide = [state[f"encoder.{i}.3.weight"][0] for i in range(levels)]
    if any(channels % ch for channels in wide):
        state.fail(f"its levels have {wide} channels, expected multiples of the first level's {ch}")
    return {
        "in_ch": in_ch,
        "out_ch": state["final_conv.weight"][0],
        "ch": ch,
        "ch_mult": [channels // ch for channels in wide],
        "embed_dim": state["latent_conv.weight"][0],
    }


def _swinir(state: _Shapes) -> dict[str, Any]:
    dim, inputs, *_ = state["conv_first.1.weight"]
    block, table = "layers.{}.residual_group.blocks.{}", "attn.relative_position_bias_table"
    groups = range(state.count("layers.{}.conv.weight"))
    tables = [state.of(f"{block.format(i, 0)}.{table}", 2) for i in groups]
    if not tables:
        state.fail(
            "has no groups of blocks ('layers.0.conv.weight'), so it is no published network"
        )
    window = (math.isqrt(tables[0][0]) + 1) // 2
    masks, *_ = state.of(f"{block.format(0, 1)}.attn_mask", 3)
    hidden, _ = state.of(f"{block.format(0, 0)}.mlp.fc1.weight", 2)
    found = {
        "embed_dim": dim,
        "depths": [state.count(f"{block.format(i, '{}')}.norm1.weight") for i in groups],
        "num_heads": [heads for _, heads in tables],
        "window_size": window,
        "mlp_ratio": hidden / dim,
        "unshuffle": math.isqrt(inputs // 3),
        "img_size": math.isqrt(masks) * window,
    }
    if "conv_hr.weight" in state.shapes:
        return {**found, "num_feat": state["conv_hr.weight"][0]}
    return {**found, "upsampler": "pixelshuffledirect"}


def _checked(state: _Shapes, component: Component) -> Component:
    """Check that a network built from the component has exactly the tensors of the file."""
    try:
        expected = network_shapes(component)
    except ConfigError as error:
        state.fail(f"looks like a {component.type} that {error}")
    different = sorted(expected.items() ^ state.shapes.items())
    if different:
        name = different[0][0]
        shape, wanted = (
            tuple(shapes[name]) if name in shapes else "absent"
            for shapes in (state.shapes, expected)
        )
        state.fail(
            f"is a variant of {component.type} that was not published: "
            f"'{printable(name, 60)}' is {shape}, "
            f"expected {wanted} ({_listed(sorted({n for n, _ in different}))} differ)"
        )
    return component


def _listed(names: Sequence[str], limit: int = 5) -> str:
    """Number of names and the first ones, for messages."""
    more = ", ..." if len(names) > limit else ""
    return f"{len(names)} tensors: {', '.join(printable(name, 40) for name in names[:limit])}{more}"
