"""The network of IR-SDE (ICML 2023): a U-Net with time-conditioned residual blocks.

Linear attention at every level. Attribute names are those of the published checkpoints, among
which the network for Gaussian noise differs: it sees ``xt`` alone and its coarsest level has full
attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """Attention between all pixels of a map (Vaswani 2017): time quadratic in the pixel count."""

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that gives the output."""
        return self.final_conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        b, _, h, w = x.shape
        qkv = self.to_qkv(x).reshape(b, 3, self.heads, -1, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # each (B, heads, H*W, dim_head)
        out = F.scaled_dot_product_attention(q, k, v)  # scaled by dim_head^-0.5
        return self.to_out(out.transpose(-1, -2).reshape(b, -1, h, w))


def middle_attention(dim: int, kind: str) -> Residual:
    """Pre-normalised residual attention of the coarsest level, ``linear`` or ``softmax``."""
    if kind not in ("linear", "softmax"):
        raise ValueError(f"mid_attention: expected 'linear' or 'softmax', got {kind!r}")
    if kind == "linear":
        return residual_attention(dim)
    return Residual(PreNorm(dim, SoftmaxAttention(dim)))


class ConditionalUNet(nn.Module):
    """Predicts the noise in ``xt`` given the degraded image ``mu`` and the time index.

    Args:
        in_nc: channels of ``xt``.
        out_nc: channels of the output.
        nf: channels of the first level; doubled at each further one.
        depth: number of levels; all but the last halve the map.
        conditional: False for a network that sees ``xt`` alone and leaves ``mu`` unread.
        mid_attention: ``linear``, or ``softmax`` between all pixels of the coarsest level.
    """

    def __init__(
        self,
        *,
        in_nc: int = 3,
        out_nc: int = 3,
        nf: int = 64,
        depth: int = 4,
        conditional: bool = True,
        mid_attention: str = "linear",
    ) -> None:
        super().__init__()
        self.factor, self.conditional = 2**depth, conditional
        time_dim, mid = nf * 4, nf * 2**depth
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf),
            nn.Linear(nf, time_dim),
            nn.GELU(),
            nn.Linear(time_dim, time_dim),
        )
        seen = in_nc * 2 if conditional else in_nc
        self.init_conv = nn.Conv2d(seen, nf, 7, padding=3, bias=False)
        dims = [nf * 2**level for level in range(depth + 1)]
        self.downs, self.ups = build_levels(dims, time_dim=time_dim)
        self.mid_block1 = ResBlock(mid, mid, time_dim=time_dim)
        self.mid_attn = middle_attention(mid, mid_attention)
        self.mid_block2 = ResBlock(mid, mid, time_dim=time_dim)
        self.final_res_block = ResBlock(nf * 2, nf, time_dim=time_dim)
        self.final_conv = nn.Conv2d(nf, out_nc, 3, padding=1)

    def forward(self, xt: Tensor, mu: Tensor, t: Tensor | int | float) -> Tensor:
        """xt and, if ``conditional``, mu (B, in_nc, H, W), t one or (B,) -> (B, out_nc, H, W)."""
        h, w = xt.shape[-2:]
        seen = torch.cat([xt - mu, mu], dim=1) if self.conditional else xt
        x = pad_to_multiple(seen, self.factor, "reflect")
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
