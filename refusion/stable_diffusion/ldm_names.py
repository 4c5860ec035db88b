"""Renaming of tensors from the LDM layout (Stable Diffusion, DiffBIR) to the layout of diffusers.

The functions are pure functions on dictionaries of tensors, and no tensor is lost: an unknown name
stays as it is, and a second tensor with the same new name gets an unused name. The function that
loads the result raises an error for both (`control.load_matching_tensors`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]

_RESIDUAL = {  # a residual block of the U-Net
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
    "middle_block_out.0.": "controlnet_mid_block.",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_AUTOENCODER = (  # pattern, replacement; applied in this order
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"^encoder\.down\.(\d+)\.block\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
)
_TEXT = (
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def unet_from_ldm(tensors: Tensors, per_level: int) -> dict[str, Tensor]:
    """Rename the tensors of a U-Net or of a ControlNet, which is the encoder half of a U-Net.

    Args:
        tensors: `input_blocks.*`, `middle_block.*`, `output_blocks.*`, `time_embed.*`, `out.*`;
            for a ControlNet also `zero_convs.*` and `middle_block_out.*`.
        per_level: residual blocks per level of the encoder, `layers_per_block` in diffusers.

    Returns:
        The same tensors by their names in diffusers.
    """
    return _without_name_clashes(
        (_unet_name(name, per_level), tensor) for name, tensor in tensors.items()
    )


def control_from_ldm(tensors: Tensors, per_level: int, channels: int) -> dict[str, Tensor]:
    """Rename the tensors of DiffBIR's IRControlNet to those of a ControlNet of diffusers.

    The condition embedding of the ControlNet is one convolution without bias. The first convolution
    of IRControlNet sees the state z and the condition c, concatenated along the channels. It is
    split between them: conv(cat(z, c)) = conv_z(z) + conv_c(c).

    Args:
        tensors: tensors of the IRControlNet by their names in the LDM layout.
        per_level: residual blocks per level, see `unet_from_ldm`.
        channels: channels of the state z, the first ones of the concatenation.
    """

    def split_first_convolution() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in unet_from_ldm(tensors, per_level).items():
            if name == "conv_in.weight" and tensor.ndim == 4:
                yield name, tensor[:, :channels].contiguous()
                yield "controlnet_cond_embedding.weight", tensor[:, channels:].contiguous()
            else:
                yield name, tensor

    return _without_name_clashes(split_first_convolution())


def autoencoder_from_ldm(tensors: Tensors, levels: int) -> dict[str, Tensor]:
    """Rename the tensors of a VAE with `levels` resolution levels.

    The 1x1 convolutions of the attention, weights (out, in, 1, 1), become linear layers (out, in).
    """

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors.items():
            for pattern, replacement in _AUTOENCODER:
                name = re.sub(pattern, replacement, name)
            name = re.sub(r"^decoder\.up\.(\d{1,3})\.", lambda up: _up_block(up, levels), name)
            name = re.sub(r"(decoder\.up_blocks\.\d+)\.block\.", r"\1.resnets.", name)
            name = re.sub(r"(decoder\.up_blocks\.\d+)\.upsample\.", r"\1.upsamplers.0.", name)
            is_attention = re.search(r"\.attentions\.0\.to_.*weight$", name)
            is_linear = is_attention and tensor.shape[2:] == (1, 1)
            yield name, tensor[:, :, 0, 0] if is_linear else tensor

    return _without_name_clashes(renamed())


def text_encoder_from_ldm(tensors: Tensors) -> dict[str, Tensor]:
    """Rename the tensors of OpenCLIP's text encoder to those of transformers.

    The joint projection `in_proj` (3 D, D) is split into those of query, key and value.
    """

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors.items():
            for pattern, replacement in _TEXT:
                name = re.sub(pattern, replacement, name)
            joint = re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", name)
            if joint is None or not tensor.ndim or len(tensor) % 3:
                yield name, tensor
                continue
            for part, piece in zip("qkv", tensor.tensor_split(3), strict=True):
                yield f"{joint[1]}.self_attn.{part}_proj.{joint[2]}", piece

    return _without_name_clashes(renamed())


def _without_name_clashes(pairs: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by name; a tensor whose name is taken gets a name that no network has."""
    found: dict[str, Tensor] = {}
    for name, tensor in pairs:
        while name in found:
            name = f"another {name}"
        found[name] = tensor
    return found


def _unet_name(name: str, per_level: int) -> str:
    """Name in diffusers of a tensor of a U-Net or ControlNet; an unknown name is returned as is."""
    for ldm, diffusers in _UNET_ENDS.items():
        if name.startswith(ldm):
            return diffusers + name.removeprefix(ldm)
    zero = re.fullmatch(r"zero_convs\.(\d+)\.0\.(.*)", name)
    if zero:
        return f"controlnet_down_blocks.{zero[1]}.{zero[2]}"
    found = re.fullmatch(r"(input_blocks|output_blocks|middle_block)\.(\d{1,3})\.(.*)", name)
    if found is None:
        return name
    kind, number, rest = found[1], int(found[2]), found[3]
    if kind == "middle_block":
        return f"mid_block.{_MIDDLE.get(found[2], found[2])}.{_residual_name(rest)}"
    layer, _, rest = rest.partition(".")
    if kind == "input_blocks":
        level, index = divmod(number - 1, per_level + 1)
        if rest.startswith("op."):
            return f"down_blocks.{level}.downsamplers.0.conv.{rest.removeprefix('op.')}"
        return f"down_blocks.{level}.{_layer_name(layer, index, rest)}"
    level, index = divmod(number, per_level + 1)
    if rest.startswith("conv."):
        return f"up_blocks.{level}.upsamplers.0.{rest}"
    return f"up_blocks.{level}.{_layer_name(layer, index, rest)}"


def _layer_name(layer: str, index: int, rest: str) -> str:
    """Name of a layer in a block: layer 0 is the residual block, layer 1 the attention."""
    kind = {"0": "resnets", "1": "attentions"}.get(layer, layer)
    return f"{kind}.{index}.{_residual_name(rest)}"


def _residual_name(rest: str) -> str:
    for ldm, diffusers in _RESIDUAL.items():
        if rest.startswith(ldm + "."):
            return diffusers + rest.removeprefix(ldm)
    return rest


def _up_block(match: re.Match[str], levels: int) -> str:
    """Name of a decoder level; LDM counts the levels from fine to coarse, diffusers the reverse."""
    return f"decoder.up_blocks.{levels - 1 - int(match[1])}."
