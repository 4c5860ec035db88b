"""Nearest-neighbour doubling and a 3x3 convolution as one operation on the small map.

After the doubling, the 3x3 window of an output pixel contains only 2x2 different input pixels.
Their positions depend on the parity of the output row and column. So four 2x2 kernels on the small
map compute the four kinds of output pixels. The taps of the 2x2 kernels are sums of taps of the 3x3
kernel. This takes less than half the multiplications.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# By [parity of the output row or column, tap of the 2x2 kernel, tap of the 3x3 kernel].
_SUMS = [[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]


class SubpixelConv(nn.Module):
    """Nearest-neighbour doubling followed by ``conv``, equal up to rounding.

    Args:
        conv: 3x3 convolution, C -> D channels, stride 1, zero padding 1; its weights are copied.
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
        by_parity = self.conv(x).permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        out = by_parity.new_empty(batch, h, 2, w, 2, by_parity.shape[-1])
        for i in range(2):
            for j in range(2):
                # The windows of even rows start one row above those of odd rows; same for columns.
                out[:, :, i, :, j] = by_parity[:, i : i + h, j : j + w, i, j]
        return out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def use_subpixel_convs(network: nn.Module) -> None:
    """Replace every nearest-neighbour doubling and its 3x3 convolution by a `SubpixelConv`.

    Args:
        network: changed in place.
    """
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
