"""Levels of `ConditionalUNet` and `LatentUNet`: two residual blocks, attention, resampling.

Each level is a list of these four modules, because the parameter names are then those of the
published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from refusion.nets.layers import ResBlock, downsample, plain_conv, residual_attention, upsample

Pair = tuple[Tensor, Tensor]


class DownLevel(nn.ModuleList):
    """Level of the encoder: [block, block, attention, convolution to the next level]."""

    def forward(self, x: Tensor, time: Tensor | None = None) -> tuple[Tensor, Pair]:
        """Map (B, fine, H, W) -> map of the next level, and two skips (B, fine, H, W).

        `time` is the time embedding, (B, time_dim), or None.
        """
        block1, block2, attention, down = self
        first = block1(x, time)
        second = attention(block2(first, time))
        return down(second), (first, second)


class UpLevel(nn.ModuleList):
    """Level of the decoder: [block, block, attention, convolution to the finer level]."""

    def join(self, x: Tensor, skips: Sequence[Tensor], time: Tensor | None = None) -> Tensor:
        """The two blocks: map (B, coarse, H, W) and the skips of ``DownLevel`` -> same shape."""
        first, second = skips
        x = self[0](torch.cat([x, second], dim=1), time)
        return self[1](torch.cat([x, first], dim=1), time)

    def mix(self, x: Tensor, skips: Sequence[Tensor], time: Tensor | None = None) -> Tensor:
        """The two blocks and the attention: (B, coarse, H, W) -> the same shape."""
        return self[2](self.join(x, skips, time))

    def leave(self, x: Tensor) -> Tensor:
        """Convolution to the finer level: (B, coarse, H, W) -> (B, fine, 2H, 2W).

        The finest level keeps H and W and changes only the channels.
        """
        return self[3](x)

    def forward(self, x: Tensor, skips: Sequence[Tensor], time: Tensor | None = None) -> Tensor:
        """All four modules: (B, coarse, H, W) and two skips -> map of the finer level."""
        return self.leave(self.mix(x, skips, time))


def keep_variance(net: nn.Module) -> None:
    """Set random initial weights that keep the variance of maps in all levels (He et al. 2015).

    The network has no normalisation. With PyTorch's default initial weights each block makes the
    values of a map three times smaller. The influence of the latent on the output of a `LatentUNet`
    of four levels is then about 1e-5, and training needs thousands of steps before it uses it.

    Args:
        net: its convolutions are changed in place.
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
            module.block2.proj.weight.data *= 0.5  # the shortcut adds the rest of the variance


def build_levels(
    dims: Sequence[int], *, attention_from: int = 0, time_dim: int | None = None
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Build the levels of a U-Net.

    Args:
        dims: channels before the first level and after each level. All levels but the last halve
            the map.
        attention_from: number of the first level with attention, from 0; finer levels have none.
        time_dim: length of the time embedding; None for blocks without time.

    Returns:
        Levels of the encoder, finest first; levels of the decoder, coarsest first.
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
