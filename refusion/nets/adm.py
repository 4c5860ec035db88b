"""The unconditional U-Net of guided-diffusion (Dhariwal and Nichol, 2021) for DDPM.

It has residual blocks with group norm, whose scale and shift depend on the time, and attention at
coarse levels. The attribute names are those of the published checkpoints, so published weights load
without a table of names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.hints import Bound, Channels, Length, Pixels
from refusion.nets.layers import as_times, pad_to_multiple


class TimedBlock(nn.Module):
    """Residual block x + f(x, time), which may also halve or double height and width.

    Args:
        dim_in: input channels.
        dim_out: output channels.
        time_dim: length of the time embedding.
        groups: groups of the normalisation.
        resample: "down" halves the size, "up" doubles it, None keeps it.
    """

    def __init__(
        self, dim_in: int, dim_out: int, time_dim: int, groups: int, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, dim_in), nn.SiLU(), nn.Conv2d(dim_in, dim_out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, 2 * dim_out))
        last = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        # The identity replaces the dropout of the published code, so that the names are equal.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, dim_out), nn.SiLU(), nn.Identity(), last
        )
        same = dim_in == dim_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(dim_in, dim_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, dim_in, H, W), time embedding (B, time_dim) -> (B, dim_out, H', W')."""
        norm, act, conv = self.in_layers
        h = conv(self._resampled(act(norm(x))))
        scale, shift = self.emb_layers(time)[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        return self.skip_connection(self._resampled(x)) + h

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0) if self.resample == "up" else x


class HeadedAttention(nn.Module):
    """x + attention(norm(x)) between all pixels; `qkv` stores q, k and v for each head in turn.

    Args:
        dim: channels of the map.
        head_channels: channels per head, a divisor of `dim`.
        groups: groups of the normalisation.

    Raises:
        ConfigError: `head_channels` does not divide `dim`.
    """

    def __init__(self, dim: int, head_channels: int, groups: int) -> None:
        super().__init__()
        if dim % head_channels:
            raise ConfigError(
                f"head_channels: expected a divisor of the {dim} channels of every level with "
                f"attention, got {head_channels}"
            )
        self.heads = dim // head_channels
        self.norm = nn.GroupNorm(groups, dim)
        self.qkv = nn.Conv1d(dim, 3 * dim, 1)
        self.proj_out = nn.Conv1d(dim, dim, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, dim, H, W) -> the same shape; `time` is ignored."""
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat)).unflatten(1, (self.heads, 3, -1)).transpose(-1, -2)
        out = F.scaled_dot_product_attention(*qkv.unbind(2))  # (B, heads, H * W, dim per head)
        return (flat + self.proj_out(out.transpose(-1, -2).flatten(1, 2))).reshape(x.shape)


class TimedSequence(nn.Sequential):
    """Modules in sequence; all but plain convolutions receive the time embedding."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, H, W), time embedding (B, time_dim) -> (B, C', H', W')."""
        for block in self:
            x = block(x) if isinstance(block, nn.Conv2d) else block(x, time)
        return x


Blocks = Callable[[int, int, int], list[nn.Module]]
"""`(input channels, output channels, level)` -> a residual block, with attention at some levels."""
Timed = Callable[..., TimedBlock]
"""`(input channels, output channels, resample)` -> a residual block."""


def _encoder(
    dims: Sequence[int], count: int, blocks: Blocks, timed: Timed
) -> tuple[nn.ModuleList, list[int]]:
    """Modules from the image to the coarsest level, and the channels of their skips."""
    dim, skips = dims[0], [dims[0]]
    rows = [TimedSequence(nn.Conv2d(3, dim, 3, padding=1))]
    for level, dim_out in enumerate(dims):
        for _ in range(count):
            rows.append(TimedSequence(*blocks(dim, dim_out, level)))
            dim = dim_out
            skips.append(dim)
        if level < len(dims) - 1:
            rows.append(TimedSequence(timed(dim, dim, "down")))
            skips.append(dim)
    return nn.ModuleList(rows), skips


def _decoder(
    dims: Sequence[int], count: int, skips: list[int], blocks: Blocks, timed: Timed
) -> nn.ModuleList:
    """Modules from the coarsest level to the finest; each uses the last of the remaining skips."""
    dim, remaining, rows = dims[-1], list(skips), []
    for level, dim_out in reversed(list(enumerate(dims))):
        for number in range(count + 1):
            row = blocks(dim + remaining.pop(), dim_out, level)
            dim = dim_out
            if level and number == count:
                row.append(timed(dim, dim, "up"))
            rows.append(TimedSequence(*row))
    return nn.ModuleList(rows)


class UnconditionalUNet(nn.Module):
    """Predicts the noise in ``xt`` from ``xt`` alone: a prior of clean photos.

    Args:
        image_size: side in pixels of the training images. Larger photos are processed in
            overlapping tiles of this size.
        model_channels: channels of the finest level, a multiple of ``groups``.
        channel_mult: channels of each level, as multiples of ``model_channels``.
        num_res_blocks: residual blocks per level of the encoder.
        attention_resolutions: image side / map side of the levels that have attention.
        head_channels: channels of an attention head, a divisor of the channels of these levels.
        groups: groups of the normalisation.
        out_channels: 3, or 6 for weights that also predict a variance, which is ignored.

    Raises:
        ConfigError: ``head_channels`` does not divide the channels of a level with attention.
    """

    def __init__(
        self,
        *,
        image_size: Pixels = 64,
        model_channels: Channels = 64,
        channel_mult: Annotated[Sequence[int], Bound(1, 64), Length(1, 8)] = (1, 2, 2, 2),
        num_res_blocks: Annotated[int, Bound(1, 64)] = 2,
        attention_resolutions: Annotated[Sequence[int], Bound(1, 1024), Length(0, 8)] = (4, 8),
        head_channels: Channels = 64,
        groups: Channels = 32,
        out_channels: Channels = 3,
    ) -> None:
        check_arguments(UnconditionalUNet.__init__, locals())
        super().__init__()
        self.image_size, self.factor = image_size, 2 ** (len(channel_mult) - 1)
        self.model_channels = model_channels
        time_dim = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        dims = [model_channels * multiple for multiple in channel_mult]

        def timed(dim_in: int, dim: int, resample: str | None = None) -> TimedBlock:
            return TimedBlock(dim_in, dim, time_dim, groups, resample)

        def blocks(dim_in: int, dim: int, level: int) -> list[nn.Module]:
            if 2**level not in attention_resolutions:
                return [timed(dim_in, dim)]
            return [timed(dim_in, dim), HeadedAttention(dim, head_channels, groups)]

        self.input_blocks, skips = _encoder(dims, num_res_blocks, blocks, timed)
        dim = dims[-1]
        attention = HeadedAttention(dim, head_channels, groups)
        self.middle_block = TimedSequence(timed(dim, dim), attention, timed(dim, dim))
        self.output_blocks = _decoder(dims, num_res_blocks, skips, blocks, timed)
        self.out = nn.Sequential(
            nn.GroupNorm(groups, dims[0]), nn.SiLU(), nn.Conv2d(dims[0], out_channels, 3, padding=1)
        )

    def forward(self, xt: Tensor, mu: Tensor | None, t: Tensor | int | float) -> Tensor:
        """Predict the noise in a state.

        Args:
            xt: state (B, 3, H, W), any H and W from 1, [-1, 1] units.
            mu: ignored; the other networks have this argument.
            t: time index 1..T, one number or (B,). Published weights count from 0, so 1 is
                subtracted.

        Returns:
            Noise, (B, 3, H, W).
        """
        height, width = xt.shape[-2:]
        x = pad_to_multiple(xt, self.factor, "reflect")
        time = self.time_embed(self._embedding(as_times(t, len(xt), xt.device) - 1, xt.dtype))
        skips = []
        for block in self.input_blocks:
            x = block(x, time)
            skips.append(x)
        x = self.middle_block(x, time)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), time)
        return self.out(x)[:, :3, :height, :width]

    def _embedding(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        half = self.model_channels // 2
        frequency = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / half))
        phase = t.float()[:, None] * frequency
        return torch.cat([phase.cos(), phase.sin()], dim=-1).to(dtype)
