"""Cross attention between the views of a stereo pair (NAFSSR, CVPRW 2022, SCAM)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.nets.layers import LayerNorm


def join_views(x: Tensor) -> Tensor:
    """Two views stacked on channels (B, 2C, H, W) -> stacked on the batch (2B, C, H, W)."""
    return torch.cat(x.chunk(2, dim=1), dim=0)


def split_views(x: Tensor) -> Tensor:
    """Inverse of ``join_views``: (2B, C, H, W) -> (B, 2C, H, W)."""
    return torch.cat(x.chunk(2, dim=0), dim=1)


def quarter(x: Tensor) -> Tensor:
    """Bicubic reduction to a quarter: (B, C, H, W) -> (B, C, H // 4, W // 4).

    A side shorter than 4 pixels is first extended to 4 by replication of the last row or column.
    """
    h, w = x.shape[-2:]
    if h < 4 or w < 4:
        x = F.pad(x, (0, max(0, 4 - w), 0, max(0, 4 - h)), mode="replicate")
    return F.interpolate(x, scale_factor=0.25, mode="bicubic")


class StereoCrossAttention(nn.Module):
    """Attention of each pixel to its epipolar line, the same row of the other view.

    As in Refusion it works on a map of a quarter of the size, and its result is enlarged by nearest
    neighbour. This divides the cost, which grows with H * W^2, by 64.

    Args:
        c: channels of the map.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.scale = c**-0.5
        self.norm_l, self.norm_r = LayerNorm(c), LayerNorm(c)
        self.l_proj1, self.r_proj1 = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.l_proj2, self.r_proj2 = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Views stacked on the batch (2B, c, H, W) -> the same shape."""
        left, right = quarter(x).chunk(2, dim=0)
        q_left = self.l_proj1(self.norm_l(left)).permute(0, 2, 3, 1)  # (B, H/4, W/4, c)
        q_right = self.r_proj1(self.norm_r(right)).permute(0, 2, 3, 1)
        v_left = self.l_proj2(left).permute(0, 2, 3, 1)
        v_right = self.r_proj2(right).permute(0, 2, 3, 1)
        attention = q_left @ q_right.transpose(-1, -2) * self.scale  # (B, H/4, W_left, W_right)
        to_left = attention.softmax(dim=-1) @ v_right
        to_right = attention.transpose(-1, -2).softmax(dim=-1) @ v_left
        update = torch.cat(
            [
                to_left.permute(0, 3, 1, 2) * self.beta,
                to_right.permute(0, 3, 1, 2) * self.gamma,
            ]
        )
        return x + F.interpolate(update, size=x.shape[-2:], mode="nearest")
