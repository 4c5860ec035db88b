"""Blocks of NAFNet (Chen et al., ECCV 2022), with and without time, and its U-shaped graph.

The attribute names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.errors import ConfigError
from refusion.nets.bokeh import LensModulation
from refusion.nets.layers import BiasedLayerNorm, LayerNorm, SimpleGate
from refusion.nets.stereo import StereoCrossAttention


class ChannelPool(nn.Module):
    """Average of each channel over the map, or over a window around each pixel.

    With a ``window`` this is the test-time local converter (TLC, Chu 2022): the average covers an
    area as large as in training. ``window`` is the side in pixels of the map of this level; None
    averages the whole map, and so does a window larger than the map. At the borders the average of
    the nearest full window is used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.window: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1) or, with a window smaller than the map, (B, C, H, W)."""
        h, w = x.shape[-2:]
        if torch.jit.is_tracing() and self.window is not None:  # sizes are variables of the graph
            return window_means(window_means(x, self.window, -2), self.window, -1)
        if self.window is None or (self.window >= h and self.window >= w):
            # In float32: the sum over a large map exceeds 65504, the largest number of float16.
            accumulated = torch.float32 if x.dtype == torch.float16 else x.dtype
            return x.mean(dim=(-2, -1), keepdim=True, dtype=accumulated).to(x.dtype)
        rows, columns = min(h, self.window), min(w, self.window)
        # A box filter is separable: two passes cost 2k additions per pixel instead of k^2.
        y = F.avg_pool2d(F.avg_pool2d(x, (rows, 1), stride=1), (1, columns), stride=1)
        bottom, right = h - y.shape[-2], w - y.shape[-1]
        return F.pad(
            y, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2), mode="replicate"
        )


def window_means(x: Tensor, window: int, dim: int) -> Tensor:
    """Means along one axis over the nearest full window around each pixel, from a running sum.

    Args:
        x: map.
        window: pixels; a window larger than the map covers the whole axis.
        dim: the axis.

    Returns:
        The shape of `x`.
    """
    length = torch.as_tensor(x.shape[dim])
    side = length.clamp_max(window)
    start = torch.arange(length) - (side - 1) // 2
    start = torch.minimum(start.clamp_min(0), length - side)
    # In float64, because the sum over a long axis is much larger than the differences.
    total = x.double().cumsum(dim)
    total = torch.cat([torch.zeros_like(total.narrow(dim, 0, 1)), total], dim)
    ends = total.index_select(dim, start + side) - total.index_select(dim, start)
    return (ends / side).to(x.dtype)


class NAFBlock(nn.Module):
    """NAFNet block with time-conditioned scale and shift in both halves (Refusion, fig. 4).

    Args:
        c: channels.
        time_dim: length of the time embedding; None for the block of NAFNet, which has no time and
            a bias in its norms.
        lens: add a condition on source and target lens (bokeh).
        stereo: add cross attention between the two views at the end.
    """

    def __init__(
        self, c: int, time_dim: int | None, *, lens: bool = False, stereo: bool = False
    ) -> None:
        super().__init__()
        self.time_name = "time_mlp" if lens else "mlp"  # the published names differ
        norm: type[nn.Module] = BiasedLayerNorm
        if time_dim is not None:
            norm, to_scale_shift = LayerNorm, nn.Linear(time_dim // 2, c * 4)
            self.add_module(self.time_name, nn.Sequential(SimpleGate(), to_scale_shift))
        self.cam_mlp = LensModulation(c, time_dim) if lens else None
        self.fusion = StereoCrossAttention(c) if stereo else None
        self.norm1, self.norm2 = norm(c), norm(c)
        self.conv1 = nn.Conv2d(c, c * 2, 1)
        self.conv2 = nn.Conv2d(c * 2, c * 2, 3, padding=1, groups=c * 2)
        self.sca = nn.Sequential(ChannelPool(), nn.Conv2d(c, c, 1))
        self.conv3 = nn.Conv2d(c, c, 1)
        self.conv4 = nn.Conv2d(c, c * 2, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.sg = SimpleGate()
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x: Tensor, time: Tensor | None = None, lens: Tensor | None = None) -> Tensor:
        """x (B, c, H, W), embeddings of time and lens (B, time_dim) -> (B, c, H, W)."""
        y = self.norm1(x)
        if time is not None:
            conditions = self.get_submodule(self.time_name)(time)[:, :, None, None].chunk(4, dim=1)
            shift_att, scale_att, shift_ffn, scale_ffn = conditions
            y = y * (scale_att + 1) + shift_att
        y = self.sg(self.conv2(self.conv1(y)))
        y = self.conv3(y * self.sca(y))
        x = x + y * self.beta
        y = self.norm2(x)
        if time is not None:
            y = y * (scale_ffn + 1) + shift_ffn
        y = self.sg(self.conv4(y))
        if self.cam_mlp is not None:
            y = self.cam_mlp(y, lens)
        y = self.conv5(y)
        x = x + y * self.gamma
        return x if self.fusion is None else self.fusion(x)


class BlockStack(nn.ModuleList):
    """Several ``NAFBlock`` in sequence; the name of each is its number, from 0."""

    def forward(self, x: Tensor, time: Tensor | None, lens: Tensor | None) -> Tensor:
        """See ``NAFBlock.forward``."""
        for block in self:
            x = block(x, time, lens)
        return x


class NAFTrunk(nn.Module):
    """The U-shaped graph of NAFNet blocks, which ``ConditionalNAFNet`` and ``NAFNet`` share.

    Its layers are attributes of the network itself, as in the published checkpoints.
    """

    pixel_unshuffle: int
    wiring = "pixel"

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that computes the output."""
        return self.ending

    @property
    def channels_at_once(self) -> int:
        """Number of full-resolution channels in memory at the same time at the peak.

        A block of the first level has about 12 times its width: input, norm, wide branch, copies.
        """
        return -(-12 * self.intro.out_channels // self.pixel_unshuffle**2)

    def _build_trunk(
        self,
        channels: tuple[int, int],
        width: int,
        counts: tuple[Sequence[int], int, Sequence[int]],
        block: Callable[[int], NAFBlock],
    ) -> None:
        """Add the layers.

        Args:
            channels: channels of the input and of the output, folded.
            width: channels of the first level.
            counts: blocks per level of the encoder, at the coarsest level, and of the decoder.
            block: makes a block of some channels.

        Raises:
            ConfigError: different numbers of levels in encoder and decoder.
        """
        encoder, middle, decoder = counts
        if len(encoder) != len(decoder):
            raise ConfigError(
                "enc_blk_nums and dec_blk_nums: expected the same number of levels, "
                f"got {list(encoder)} and {list(decoder)}"
            )

        def blocks(c: int, count: int) -> BlockStack:
            return BlockStack(block(c) for _ in range(count))

        levels = [width * 2**i for i in range(len(encoder))]
        self.intro = nn.Conv2d(channels[0], width, 3, padding=1)
        self.ending = nn.Conv2d(width, channels[1], 3, padding=1)
        self.encoders = nn.ModuleList(map(blocks, levels, encoder))
        self.downs = nn.ModuleList(nn.Conv2d(c, c * 2, 2, 2) for c in levels)
        self.middle_blks = blocks(width * 2 ** len(encoder), middle)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c * 2, c * 4, 1, bias=False), nn.PixelShuffle(2))
            for c in reversed(levels)
        )
        self.decoders = nn.ModuleList(map(blocks, reversed(levels), decoder))

    def set_pool_window(self, window: int | None) -> None:
        """Set the window of the channel attention in all blocks.

        Args:
            window: side in input pixels; None for the average over the whole map.
        """
        stacks = [*self.encoders, self.middle_blks, *reversed(self.decoders)]
        depths = [*range(len(self.encoders)), len(self.encoders), *range(len(self.decoders))]
        for stack, depth in zip(stacks, depths, strict=True):
            for block in stack:
                block.sca[0].window = window and max(1, window // (self.pixel_unshuffle * 2**depth))

    def _trunk(self, x: Tensor, time: Tensor | None = None, camera: Tensor | None = None) -> Tensor:
        x = first = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x, time, camera)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x, time, camera)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            x = decoder(up(x) + skips.pop(), time, camera)
        return self.ending(x + first if self.wiring == "latent" else x)
