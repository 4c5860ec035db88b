"""The network of IR-SDE (ICML 2023): a U-Net with time-conditioned residual blocks.

Linear attention at every level. Attribute names are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from refusion.nets.layers import (
    ResBlock,
    SinusoidalEmbedding,
    as_times,
    pad_to_multiple,
    residual_attention,
)
from refusion.nets.levels import build_levels


class ConditionalUNet(nn.Module):
    """Predicts the noise in ``xt`` given the degraded image ``mu`` and the time index.

    Args:
        in_nc: channels of ``xt``.
        out_nc: channels of the output.
        nf: channels of the first level; doubled at each further one.
        depth: number of levels; all but the last halve the map.
    """

    def __init__(self, *, in_nc: int = 3, out_nc: int = 3, nf: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.factor = 2**depth
        time_dim, mid = nf * 4, nf * 2**depth
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf),
            nn.Linear(nf, time_dim),
            nn.GELU(),
            nn.Linear(time_dim, time_dim),
        )
        self.init_conv = nn.Conv2d(in_nc * 2, nf, 7, padding=3, bias=False)
        dims = [nf * 2**level for level in range(depth + 1)]
        self.downs, self.ups = build_levels(dims, time_dim=time_dim)
        self.mid_block1 = ResBlock(mid, mid, time_dim=time_dim)
        self.mid_attn = residual_attention(mid)
        self.mid_block2 = ResBlock(mid, mid, time_dim=time_dim)
        self.final_res_block = ResBlock(nf * 2, nf, time_dim=time_dim)
        self.final_conv = nn.Conv2d(nf, out_nc, 3, padding=1)

    def forward(self, xt: Tensor, mu: Tensor, t: Tensor | int | float) -> Tensor:
        """xt, mu (B, in_nc, H, W), t one or (B,) -> (B, out_nc, H, W)."""
        h, w = xt.shape[-2:]
        x = pad_to_multiple(torch.cat([xt - mu, mu], dim=1), self.factor, "reflect")
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
