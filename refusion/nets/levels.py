"""Levels of the two U-Nets: two residual blocks, attention, and a change of resolution.

Each level is a list of these four, so that parameter names are those of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from refusion.nets.layers import ResBlock, downsample, plain_conv, residual_attention, upsample

Pair = tuple[Tensor, Tensor]


class DownLevel(nn.ModuleList):
    """Level of the way down: [block, block, attention, convolution to the next level]."""

    def forward(self, x: Tensor, time: Tensor | None = None) -> tuple[Tensor, Pair]:
        """Map (B, fine, H, W) -> the next level's map, and two skips (B, fine, H, W)."""
        block1, block2, attention, down = self
        first = block1(x, time)
        second = attention(block2(first, time))
        return down(second), (first, second)


class UpLevel(nn.ModuleList):
    """Level of the way up: [block, block, attention, convolution to the finer level]."""

    def join(self, x: Tensor, skips: Sequence[Tensor], time: Tensor | None = None) -> Tensor:
        """Map (B, coarse, H, W) and the two skips of ``DownLevel`` -> (B, coarse, H, W)."""
        first, second = skips
        x = self[0](torch.cat([x, second], dim=1), time)
        return self[1](torch.cat([x, first], dim=1), time)

    def mix(self, x: Tensor, skips: Sequence[Tensor], time: Tensor | None = None) -> Tensor:
        """``join``, then attention."""
        return self[2](self.join(x, skips, time))

    def leave(self, x: Tensor) -> Tensor:
        """To the finer level: doubles height and width, at the finest only changes channels."""
        return self[3](x)

    def forward(self, x: Tensor, skips: Sequence[Tensor], time: Tensor | None = None) -> Tensor:
        """``mix``, then ``leave``."""
        return self.leave(self.mix(x, skips, time))


def keep_variance(net: nn.Module) -> None:
    """Draw first weights with which maps keep their variance through all levels (He et al. 2015).

    There is no normalisation, and PyTorch's own first weights shrink a map threefold per block:
    what a `LatentUNet` of four levels decodes would depend on the latent by parts in 100 000, and
    thousands of steps would pass before it is used.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, ResBlock):
            nn.init.kaiming_normal_(module.block1.proj.weight, nonlinearity="relu")
            nn.init.kaiming_normal_(module.block2.proj.weight, nonlinearity="relu")
            module.block2.proj.weight.data *= 0.5  # the shortcut brings the rest


def build_levels(
    dims: Sequence[int], *, attention_from: int = 0, time_dim: int | None = None
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Levels down (finest first) and up (coarsest first).

    Args:
        dims: channels before the first level and after each; all levels but the last halve the map.
        attention_from: first level with attention; finer ones have none.
        time_dim: length of the time embedding, None for blocks without one.
    """
    downs, ups = nn.ModuleList(), nn.ModuleList()
    last = len(dims) - 2

    def blocks(dim_in: int, dim: int, level: int) -> list[nn.Module]:
        pair = [ResBlock(dim_in, dim, time_dim=time_dim) for _ in range(2)]
        return [*pair, residual_attention(dim) if level >= attention_from else nn.Identity()]

    for level, (fine, coarse) in enumerate(pairwise(dims)):
        down = plain_conv if level == last else downsample
        up = plain_conv if level == 0 else upsample
        downs.append(DownLevel([*blocks(fine, fine, level), down(fine, coarse)]))
        ups.insert(0, UpLevel([*blocks(coarse + fine, coarse, level), up(coarse, fine)]))
    return downs, ups
