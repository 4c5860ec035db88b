"""The network of IR-SDE (ICML 2023): a U-Net with time-conditioned residual blocks.

It has linear attention at every level. The attribute names are those of the published checkpoints.
The published network for Gaussian noise differs from the others: its only input is ``xt``, and its
coarsest level has softmax attention.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.hints import Bound, Channels
from refusion.nets.layers import (
    PreNorm,
    ResBlock,
    Residual,
    SinusoidalEmbedding,
    as_times,
    pad_to_multiple,
    residual_attention,
)
from refusion.nets.levels import build_levels


class SoftmaxAttention(nn.Module):
    """Attention between all pixels of a map (Vaswani 2017); quadratic in the number of pixels.

    Args:
        dim: channels of the map.
        heads: number of heads.
        dim_head: channels per head.
    """

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        b, _, h, w = x.shape
        qkv = self.to_qkv(x).reshape(b, 3, self.heads, -1, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # each (B, heads, H*W, dim_head)
        out = F.scaled_dot_product_attention(q, k, v)  # scaled by dim_head^-0.5
        return self.to_out(out.transpose(-1, -2).reshape(b, -1, h, w))


def middle_attention(dim: int, kind: str) -> Residual:
    """x + attention(norm(x)) for the coarsest level.

    Args:
        dim: channels of the map.
        kind: ``linear`` or ``softmax``.

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in ("linear", "softmax"):
        raise ConfigError(f"mid_attention: expected 'linear' or 'softmax', got {kind!r}")
    if kind == "linear":
        return residual_attention(dim)
    return Residual(PreNorm(dim, SoftmaxAttention(dim)))


class ConditionalUNet(nn.Module):
    """Predicts the noise in ``xt`` given the degraded image ``mu`` and the time index.

    Args:
        in_nc: channels of ``xt``.
        out_nc: channels of the output.
        nf: channels of the first level; each further level has twice as many.
        depth: number of levels; all but the last halve the map.
        conditional: False for a network that receives only ``xt`` and ignores ``mu``.
        mid_attention: attention of the coarsest level: ``linear``, or ``softmax`` between all
            pixels.

    Raises:
        ConfigError: unknown ``mid_attention``.
    """

    def __init__(
        self,
        *,
        in_nc: Channels = 3,
        out_nc: Channels = 3,
        nf: Channels = 64,
        depth: Annotated[int, Bound(1, 8)] = 4,
        conditional: bool = True,
        mid_attention: str = "linear",
    ) -> None:
        check_arguments(ConditionalUNet.__init__, locals())
        super().__init__()
        self.factor, self.conditional = 2**depth, conditional
        time_dim, mid = nf * 4, nf * 2**depth
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf),
            nn.Linear(nf, time_dim),
            nn.GELU(),
            nn.Linear(time_dim, time_dim),
        )
        in_channels = in_nc * 2 if conditional else in_nc
        self.init_conv = nn.Conv2d(in_channels, nf, 7, padding=3, bias=False)
        dims = [nf * 2**level for level in range(depth + 1)]
        self.downs, self.ups = build_levels(dims, time_dim=time_dim)
        self.mid_block1 = ResBlock(mid, mid, time_dim=time_dim)
        self.mid_attn = middle_attention(mid, mid_attention)
        self.mid_block2 = ResBlock(mid, mid, time_dim=time_dim)
        self.final_res_block = ResBlock(nf * 2, nf, time_dim=time_dim)
        self.final_conv = nn.Conv2d(nf, out_nc, 3, padding=1)

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that computes the output."""
        return self.final_conv

    def forward(self, xt: Tensor, mu: Tensor, t: Tensor | int | float) -> Tensor:
        """Predict the noise (or another quantity, as stored in the checkpoint).

        Args:
            xt: state (B, in_nc, H, W), any H and W from 1.
            mu: degraded image, the same shape; ignored unless ``conditional``.
            t: time index, one number or (B,).

        Returns:
            (B, out_nc, H, W).
        """
        h, w = xt.shape[-2:]
        inputs = torch.cat([xt - mu, mu], dim=1) if self.conditional else xt
        x = pad_to_multiple(inputs, self.factor, "reflect")
        time = self.time_mlp(as_times(t, xt.shape[0], xt.device))
        x = first = self.init_conv(x)
        skips = []
        for level in self.downs:
            x, pair = level(x, time)
            skips.append(pair)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, time)), time)
        for level in self.ups:
            x = level(x, skips.pop(), time)
        x = self.final_res_block(torch.cat([x, first], dim=1), time)
        return self.final_conv(x)[..., :h, :w]
