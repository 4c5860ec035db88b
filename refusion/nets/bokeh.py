"""Lens conditioning for bokeh transformation (Refusion, section 4, NTIRE 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from refusion.nets.layers import SimpleGate


class LensModulation(nn.Sequential):
    """Scale and shift of the features of a block, computed from the lens embedding.

    Args:
        c: channels of the features.
        time_dim: length of the lens embedding, equal to that of the time embedding.
    """

    def __init__(self, c: int, time_dim: int) -> None:
        super().__init__(SimpleGate(), nn.Linear(time_dim // 2, c * 2))

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        """Features x (B, c, H, W), lens embedding (B, time_dim) -> (B, c, H, W)."""
        scale, shift = super().forward(lens)[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift
