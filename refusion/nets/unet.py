"""The network of IR-SDE (ICML 2023): a U-Net with time-conditioned residual blocks and linear
attention at every level. Attribute names are those of the published checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from refusion.nets.layers import (
    ResBlock,
    SinusoidalEmbedding,
    as_times,
    downsample,
    pad_to_multiple,
    plain_conv,
    residual_attention,
    upsample,
)


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
        time_dim = nf * 4
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf), nn.Linear(nf, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim)
        )
        self.init_conv = nn.Conv2d(in_nc * 2, nf, 7, padding=3, bias=False)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()

        def block(dim_in: int, dim_out: int) -> ResBlock:
            return ResBlock(dim_in, dim_out, time_dim=time_dim)

        for level in range(depth):
            fine, coarse = nf * 2**level, nf * 2 ** (level + 1)
            last, first = level == depth - 1, level == 0
            down = plain_conv(fine, coarse) if last else downsample(fine, coarse)
            up = plain_conv(coarse, fine) if first else upsample(coarse, fine)
            self.downs.append(
                nn.ModuleList(
                    [block(fine, fine), block(fine, fine), residual_attention(fine), down]
                )
            )
            both = fine + coarse
            self.ups.insert(
                0,
                nn.ModuleList(
                    [block(both, coarse), block(both, coarse), residual_attention(coarse), up]
                ),
            )
        mid = nf * 2**depth
        self.mid_block1, self.mid_block2 = block(mid, mid), block(mid, mid)
        self.mid_attn = residual_attention(mid)
        self.final_res_block = block(nf * 2, nf)
        self.final_conv = nn.Conv2d(nf, out_nc, 3, padding=1)

    def forward(self, xt: Tensor, mu: Tensor, t: Tensor | int | float) -> Tensor:
        """xt, mu (B, in_nc, H, W), t one or (B,) -> (B, out_nc, H, W)."""
        h, w = xt.shape[-2:]
        x = pad_to_multiple(torch.cat([xt - mu, mu], dim=1), self.factor, "reflect")
        time = self.time_mlp(as_times(t, xt.shape[0], xt.device))
        x = first = self.init_conv(x)
        skips = []
        for block1, block2, attention, down in self.downs:
            x = block1(x, time)
            skips.append(x)
            x = attention(block2(x, time))
            skips.append(x)
            x = down(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, time)), time)
        for block1, block2, attention, up in self.ups:
            x = block1(torch.cat([x, skips.pop()], dim=1), time)
            x = block2(torch.cat([x, skips.pop()], dim=1), time)
            x = up(attention(x))
        x = self.final_res_block(torch.cat([x, first], dim=1), time)
        return self.final_conv(x)[..., :h, :w]

