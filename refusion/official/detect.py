"""Which network a published state dict belongs to, read off the names and shapes of its tensors.

All settings can be seen but one: the pixel and the latent `wiring` of `ConditionalNAFNet` have the
same tensors. What is detected is built without memory and compared tensor by tensor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from refusion.config.parser import Component
from refusion.errors import CheckpointError
from refusion.nets import NETS

_KINDS = {  # a tensor that only this network has, under its name in `NETS`
    "latent_conv.weight": "LatentUNet",
    "intro.weight": "ConditionalNAFNet",
    "mid_block1.block1.proj.weight": "ConditionalUNet",
    "conv_first.1.weight": "SwinIR",
}


def part_of(state: Mapping[str, Tensor], path: str | Path) -> str:
    """`network` or `latent_unet`: the part of a model these tensors are; errors as below."""
    kind = _kind(_Shapes(state, Path(path)))
    return "latent_unet" if kind == "LatentUNet" else "network"


def detect_network(state: Mapping[str, Tensor], path: str | Path) -> Component:
    """Type and settings of a noise network, all but the wiring, or of DiffBIR's first stage.

    Args:
        state: tensors by their published names, as `read_official` returns them.
        path: the file, for error messages.

    Raises:
        CheckpointError: a latent U-Net, an unknown network, or an unpublished variant of a known
            one (the message names what does not fit).
    """
    state = _Shapes(state, Path(path))
    kind = _kind(state)
    if kind == "LatentUNet":
        state.fail(
            "is a latent U-Net, not a noise network; give it as --latent, and as --net the "
            "network that was trained in its latent"
        )
    read = {"ConditionalNAFNet": _nafnet, "ConditionalUNet": _unet, "SwinIR": _swinir}[kind]
    return _checked(state, Component(kind, read(state)))


def detect_latent_unet(state: Mapping[str, Tensor], path: str | Path) -> Component:
    """Settings of a latent U-Net; arguments and errors as `detect_network`."""
    state = _Shapes(state, Path(path))
    kind = _kind(state)
    if kind != "LatentUNet":
        state.fail(f"is a {kind}, not a latent U-Net; give it as --net")
    return _checked(state, Component(kind, _latent_unet(state)))


class _Shapes:
    """Shapes by name, of a file."""

    def __init__(self, state: Mapping[str, Tensor], path: Path) -> None:
        self.shapes = {name: tensor.shape for name, tensor in state.items()}
        self.path = path

    def __getitem__(self, name: str) -> torch.Size:
        """Shape (out, in, rows, columns) of a convolution's weight."""
        return self.of(name, 4, "convolution")

    def of(self, name: str, dims: int, kind: str = "tensor") -> torch.Size:
        """Shape of a tensor with so many dimensions."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) != dims or 0 in shape:
            self.fail(f"has no {kind} '{name}', so it is no published network")
        return shape

    def count(self, pattern: str) -> int:
        """How many indices stand in the place of {} in the names."""
        regex = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
        return len({match[1] for name in self.shapes if (match := regex.fullmatch(name))})

    def fail(self, message: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {message}")


def _kind(state: _Shapes) -> str:
    for name, kind in _KINDS.items():
        if name in state.shapes:
            return kind
    names = ", ".join(sorted(state.shapes)[:3])
    state.fail(f"is no network of the authors' release (its tensors: {names}, ...)")


def _conditional(state: _Shapes, seen: int, channels: int) -> bool:
    """Whether the first layer sees the degraded image beside the state."""
    if seen not in (channels, 2 * channels):
        state.fail(
            f"its first layer sees {seen} channels and its last gives {channels}; "
            f"expected {2 * channels}, or {channels} for Gaussian noise"
        )
    return seen == 2 * channels


def _nafnet(state: _Shapes) -> dict[str, Any]:
    (width, seen, *_), (channels, *_) = state["intro.weight"], state["ending.weight"]
    levels = state.count("downs.{}.weight")
    return {
        "img_channel": channels,
        "width": width,
        "enc_blk_nums": [state.count(f"encoders.{i}.{{}}.beta") for i in range(levels)],
        "middle_blk_num": state.count("middle_blks.{}.beta"),
        "dec_blk_nums": [state.count(f"decoders.{i}.{{}}.beta") for i in range(levels)],
        "lens": "cam_mlp.0.weight" in state.shapes,
        "stereo": any(".fusion." in name for name in state.shapes),
        "conditional": _conditional(state, seen, channels),
    }


def _unet(state: _Shapes) -> dict[str, Any]:
    (nf, seen, *_), (channels, *_) = state["init_conv.weight"], state["final_conv.weight"]
    softmax = "mid_attn.fn.fn.to_out.weight" in state.shapes
    return {
        "in_nc": channels,
        "out_nc": channels,
        "nf": nf,
        "depth": state.count("downs.{}.3.weight"),
        "conditional": _conditional(state, seen, channels),
        "mid_attention": "softmax" if softmax else "linear",
    }


def _latent_unet(state: _Shapes) -> dict[str, Any]:
    ch, in_ch, *_ = state["init_conv.weight"]
    levels = state.count("encoder.{}.3.weight")
    wide = [state[f"encoder.{i}.3.weight"][0] for i in range(levels)]
    if any(channels % ch for channels in wide):
        state.fail(f"its levels have {wide} channels, expected multiples of the first's {ch}")
    return {
        "in_ch": in_ch,
        "out_ch": state["final_conv.weight"][0],
        "ch": ch,
        "ch_mult": [channels // ch for channels in wide],
        "embed_dim": state["latent_conv.weight"][0],
    }


def _swinir(state: _Shapes) -> dict[str, Any]:
    dim, seen, *_ = state["conv_first.1.weight"]
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
        "unshuffle": math.isqrt(seen // 3),
        "img_size": math.isqrt(masks) * window,
    }
    if "conv_hr.weight" in state.shapes:
        return {**found, "num_feat": state["conv_hr.weight"][0]}
    return {**found, "upsampler": "pixelshuffledirect"}


def _checked(state: _Shapes, component: Component) -> Component:
    """The component, once it is known to have exactly these tensors."""
    with torch.device("meta"):  # shapes without memory
        try:
            net = NETS[component.type](**component.settings)
        except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
            state.fail(f"looks like a {component.type} that cannot be built: {error}")
    expected = {name: tensor.shape for name, tensor in net.state_dict().items()}
    different = sorted(expected.items() ^ state.shapes.items())
    if different:
        name = different[0][0]
        here, there = (
            tuple(shapes[name]) if name in shapes else "absent"
            for shapes in (state.shapes, expected)
        )
        state.fail(
            f"is a variant of {component.type} that was not published: '{name}' is {here}, "
            f"expected {there} ({_listed(sorted({n for n, _ in different}))} differ)"
        )
    return component


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = ", ..." if len(names) > limit else ""
    return f"{len(names)} tensors: {', '.join(names[:limit])}{more}"
