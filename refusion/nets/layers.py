"""Layers shared by the networks.

Attribute names follow the published checkpoints: their weights load without a conversion table.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Normalises over channels at every pixel, with a gain ``g`` and no bias: (B, C, H, W).

    Runs as the fused kernel over the last axis, which is free of copies in channels-last memory.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        gain = self.g.flatten().to(x.dtype)
        x = F.layer_norm(x.permute(0, 2, 3, 1), gain.shape, gain, None, self.eps)
        return x.permute(0, 3, 1, 2)


class SimpleGate(nn.Module):
    """Product of the two channel halves (NAFNet, eq. 4): dim 1 of size 2C -> C."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2C, ...) -> (B, C, ...)."""
        a, b = x.chunk(2, dim=1)
        return a * b


class SinusoidalEmbedding(nn.Module):
    """Sine and cosine features of a number per image (Vaswani 2017): (B,) -> (B, dim).

    Computed in float32, returned in the dtype of the model it stands in.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        # Empty, but follows ``model.to(dtype)``: a layer without weights cannot ask them.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Times or lens numbers (B,) -> (B, dim)."""
        half = self.dim // 2
        step = math.log(10000) / (half - 1)
        frequency = torch.exp(torch.arange(half, device=t.device) * -step)
        phase = t.float()[:, None] * frequency
        return torch.cat([phase.sin(), phase.cos()], dim=-1).to(self.like.dtype)


class Block(nn.Module):
    """3x3 convolution, optional scale and shift from the time embedding, activation."""

    def __init__(self, dim_in: int, dim_out: int, act: nn.Module) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim_in, dim_out, 3, padding=1, bias=False)
        self.act = act

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, dim_in, H, W) -> (B, dim_out, H, W)."""
        x = self.proj(x)
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.act(x)


class ResBlock(nn.Module):
    """Two ``Block``s and a shortcut, without normalisation; ``time_dim`` adds time conditioning."""

    def __init__(self, dim_in: int, dim_out: int, *, time_dim: int | None = None) -> None:
        super().__init__()
        act = nn.SiLU()
        if time_dim is not None:
            self.mlp = nn.Sequential(act, nn.Linear(time_dim, dim_out * 2))
        self.block1 = Block(dim_in, dim_out, act)
        self.block2 = Block(dim_out, dim_out, act)
        same = dim_in == dim_out
        self.res_conv = nn.Identity() if same else nn.Conv2d(dim_in, dim_out, 1, bias=False)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, dim_in, H, W), time embedding (B, time_dim) -> (B, dim_out, H, W)."""
        scale_shift = None
        if time is not None:
            scale_shift = self.mlp(time)[:, :, None, None].chunk(2, dim=1)
        h, shortcut = self.block2(self.block1(x, scale_shift)), self.res_conv(x)
        # In place, as nobody else needs h: maps of photos are large, and fresh memory is slow.
        return h.add_(shortcut) if h.dtype == shortcut.dtype else h + shortcut


class LinearAttention(nn.Module):
    """Attention with cost linear in the pixel count (Katharopoulos 2020, softmax feature maps).

    The whole map enters only through the (32 x 32) context of each head.
    """

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        hidden = heads * dim_head
        self.to_qkv = nn.Conv2d(dim, hidden * 3, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(hidden, dim, 1), LayerNorm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        b, _, h, w = x.shape
        qkv = self.to_qkv(x).reshape(b, 3, self.heads, -1, h * w)
        q, k, v = qkv.unbind(dim=1)  # each (B, heads, dim_head, H*W)
        q = q.softmax(dim=-2) * self.scale
        k = k.softmax(dim=-1)
        context = k @ (v / (h * w)).transpose(-1, -2)
        out = context.transpose(-1, -2) @ q
        return self.to_out(out.reshape(b, -1, h, w))


class PreNorm(nn.Module):
    """Layer norm before ``fn``."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shape of ``fn``."""
        return self.fn(self.norm(x))


class Residual(nn.Module):
    """x + fn(x)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        return x + self.fn(x)


def residual_attention(dim: int) -> Residual:
    """Pre-normalised residual ``LinearAttention``."""
    return Residual(PreNorm(dim, LinearAttention(dim)))


def downsample(dim_in: int, dim_out: int) -> nn.Conv2d:
    """Halves height and width."""
    return nn.Conv2d(dim_in, dim_out, 4, stride=2, padding=1)


def upsample(dim_in: int, dim_out: int) -> nn.Sequential:
    """Doubles height and width: nearest neighbour, then a 3x3 convolution."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim_in, dim_out, 3, padding=1)
    )


def plain_conv(dim_in: int, dim_out: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size, where a level neither halves nor doubles."""
    return nn.Conv2d(dim_in, dim_out, 3, padding=1, bias=False)


def pad_to_multiple(x: Tensor, multiple: int, mode: str) -> Tensor:
    """Pads (B, C, H, W) at the bottom and right until both sides divide by ``multiple``.

    ``reflect`` needs more pixels than it adds; where a side is too short the rest is replicated,
    so that every size down to 1x1 works.
    """
    h, w = x.shape[-2:]
    bottom, right = -h % multiple, -w % multiple
    if not (bottom or right):
        return x
    if mode == "reflect":
        reflected = min(bottom, h - 1), min(right, w - 1)
        x = F.pad(x, (0, reflected[1], 0, reflected[0]), mode="reflect")
        bottom, right = bottom - reflected[0], right - reflected[1]
        mode = "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode) if bottom or right else x


def as_times(t: Tensor | int | float, batch: int, device: torch.device) -> Tensor:
    """A time index, or one per image, as a tensor (B,)."""
    t = torch.as_tensor(t, device=device)
    return t.reshape(-1).expand(batch) if t.numel() == 1 else t
