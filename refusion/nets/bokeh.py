"""Lens conditioning for bokeh transformation (Refusion, section 4, NTIRE 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from refusion.nets.layers import SimpleGate


class LensModulation(nn.Sequential):
    """Scale and shift of one block's features by the lens embedding."""

    def __init__(self, c: int, time_dim: int) -> None:
        super().__init__(SimpleGate(), nn.Linear(time_dim // 2, c * 2))

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        """x (B, c, H, W), lens (B, time_dim) -> (B, c, H, W)."""
        scale, shift = super().forward(lens)[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift
