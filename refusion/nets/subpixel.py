"""Doubling a map and convolving it, in one step and less than half the multiplications.

After nearest-neighbour doubling, the 3x3 window of an output pixel shows 2x2 input pixels, some of
them twice; which, depends only on whether its row and column are even or odd. So four 2x2 kernels
on the small map, their taps sums of those of the 3x3 kernel, give the four kinds of output pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# By [parity of the output row or column, tap of the 2x2 kernel, tap of the 3x3 kernel].
_SUMS = [[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]


class SubpixelConv(nn.Module):
    """Nearest-neighbour doubling, then ``conv``, to rounding: (B, C, H, W) -> (B, D, 2H, 2W).

    Args:
        conv: 3x3, stride 1, padding 1 with zeros; its weights are copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels * 4, 2, padding=1, bias=conv.bias is not None
        )
        sums, weight = torch.tensor(_SUMS, dtype=torch.float32), conv.weight.detach().float()
        kernels = torch.einsum("ayr,bxs,oirs->aboiyx", sums, sums, weight)
        with torch.no_grad():
            self.conv.weight.copy_(kernels.flatten(0, 2))
            if conv.bias is not None:
                self.conv.bias.copy_(conv.bias.repeat(4))
        self.to(conv.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, 2H, 2W), in channels-last memory."""
        batch, _, h, w = x.shape
        kinds = self.conv(x).permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        out = kinds.new_empty(batch, h, 2, w, 2, kinds.shape[-1])
        for i in range(2):
            for j in range(2):
                # Windows of even rows start one row higher than those of odd rows; columns alike.
                out[:, :, i, :, j] = kinds[:, i : i + h, j : j + w, i, j]
        return out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def use_subpixel_convs(network: nn.Module) -> None:
    """Put a `SubpixelConv` in the place of every doubling that a convolution follows."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential) and _is_doubling(child):
                module.register_module(name, SubpixelConv(child[1]))


def _is_doubling(pair: nn.Sequential) -> bool:
    if len(pair) != 2 or not isinstance(pair[0], nn.Upsample) or not isinstance(pair[1], nn.Conv2d):
        return False
    up, conv = pair
    return (up.mode, up.scale_factor) == ("nearest", 2) and (
        (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
    )
