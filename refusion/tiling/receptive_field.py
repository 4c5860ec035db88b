"""The receptive field of a `LatentUNet`, computed from its modules: the halo of exact tiles."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from refusion.nets import LatentUNet
from refusion.nets.layers import ResBlock
from refusion.nets.subpixel import SubpixelConv


@dataclass(frozen=True)
class Halo:
    """Margin around a tile in image pixels, a multiple of the `factor` of the network.

    Attributes:
        encode: margin for the map at 1/factor in the tile.
        decode: margin for the decoded image in the tile, with skips computed from the image.
    """

    encode: int
    decode: int


def margin_before(module: nn.Module, margin: int) -> int:
    """Margin of the input of a module that a margin of its output depends on.

    Tiles start and end at multiples of every stride.

    Args:
        module: a convolution, an upsampling, or a module built of these.
        margin: output pixels beyond the edge of a tile that must be correct, >= 0.

    Returns:
        Input pixels beyond the edge of the tile.

    Raises:
        TypeError: the receptive field of this type of module is not implemented.

    >>> margin_before(nn.Conv2d(1, 1, 3, padding=1), 2)
    3
    >>> margin_before(nn.Conv2d(1, 1, 4, stride=2, padding=1), 2)
    5
    >>> margin_before(nn.Upsample(scale_factor=2), 3)
    2
    """
    if isinstance(module, nn.Identity):
        return margin
    if isinstance(module, nn.Conv2d):
        return max(_conv_margin(module, axis, margin) for axis in (0, 1))
    if isinstance(module, nn.Upsample):
        return -int(-margin // module.scale_factor)
    if isinstance(module, SubpixelConv):
        return margin // 2 + 1  # (margin + 1) / 2 rounded up: its 3x3 kernel needs one pixel more
    if isinstance(module, nn.Sequential):
        for inner in reversed(module):
            margin = margin_before(inner, margin)
        return margin
    if isinstance(module, ResBlock):
        inside = margin_before(module.block1.proj, margin_before(module.block2.proj, margin))
        return max(inside, margin_before(module.res_conv, margin))
    raise TypeError(f"module: the receptive field of {type(module).__name__} is not implemented")


def halo_of(unet: LatentUNet) -> Halo:
    """Halo of a network; at the default depth 40 pixels for encoding and 72 for decoding."""
    encode = _image_margin(unet, len(unet.encoder) - 1, 0)
    return Halo(_round_up(encode, unet.factor), _round_up(_decode_margin(unet), unet.factor))


def _conv_margin(conv: nn.Conv2d, axis: int, margin: int) -> int:
    stride, padding = conv.stride[axis], conv.padding[axis]
    span = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
    # Output i reads inputs stride * i - padding to stride * i - padding + span - 1.
    return stride * margin + max(padding, span - stride - padding)


def _image_margin(unet: LatentUNet, level: int, margin: int) -> int:
    """Margin of the image for a margin of the map that is the input of encoder level `level`."""
    for block1, block2, attention, down in reversed(unet.encoder[:level]):
        for module in (down, attention, block2, block1):
            margin = margin_before(module, margin)
    return margin_before(unet.init_conv, margin) * unet.pixel_unshuffle


def _decode_margin(unet: LatentUNet) -> int:
    margin = margin_before(unet.final_conv, 0)
    needed = [_image_margin(unet, 0, margin)]
    for level, (block1, block2, attention, up) in enumerate(reversed(unet.decoder[1:])):
        for module in (up, attention, block2, block1):
            margin = margin_before(module, margin)
        # The skips of the level are the outputs of its two blocks. The second one depends on more.
        block1, block2, _, _ = unet.encoder[level]
        at_skip = margin_before(block1, margin_before(block2, margin))
        needed.append(_image_margin(unet, level, at_skip))
    return max(*needed, margin_before(unet.decoder[0][3], margin) * unet.factor)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
