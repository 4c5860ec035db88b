"""Layers that several networks use.

The attribute names are those of the published checkpoints, so published weights load without a
table of names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.errors import ConfigError


class LayerNorm(nn.Module):
    """Layer norm over the channels of every pixel, with a gain ``g`` and no bias: (B, C, H, W).

    It uses PyTorch's fused kernel over the last axis, which needs no copy of a map in channels-last
    memory.

    Args:
        dim: channels C.
        eps: number added to the variance.
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


class BiasedLayerNorm(nn.Module):
    """Layer norm over the channels of every pixel, with gain and bias, as in NAFNet.

    Args:
        dim: channels C.
        eps: number added to the variance.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        x = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, self.eps)
        return x.permute(0, 3, 1, 2)


class SimpleGate(nn.Module):
    """Product of the two halves of the channels (NAFNet, eq. 4): (B, 2C, ...) -> (B, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2C, ...) -> (B, C, ...)."""
        a, b = x.chunk(2, dim=1)
        return a * b


class SinusoidalEmbedding(nn.Module):
    """Sine and cosine features of one number per image (Vaswani 2017): (B,) -> (B, dim).

    The features are computed in float32 and returned in the dtype of the model.

    Args:
        dim: number of features, even, >= 4.

    Raises:
        ConfigError: `dim` is odd or below 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ConfigError(
                f"expected an even number of channels of the first level, at least 4, got {dim}"
            )
        self.dim = dim
        # This layer has no weights. The empty buffer stores the dtype, since ``model.to`` casts it.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Times or lens numbers (B,) -> (B, dim)."""
        half = self.dim // 2
        step = math.log(10000) / (half - 1)
        frequency = torch.exp(torch.arange(half, device=t.device) * -step)
        phase = t.float()[:, None] * frequency
        return torch.cat([phase.sin(), phase.cos()], dim=-1).to(self.like.dtype)


class Block(nn.Module):
    """3x3 convolution, an optional scale and shift from the time embedding, activation.

    Args:
        dim_in: input channels.
        dim_out: output channels.
        act: activation.
    """

    def __init__(self, dim_in: int, dim_out: int, act: nn.Module) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim_in, dim_out, 3, padding=1, bias=False)
        self.act = act

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, dim_in, H, W), scale and shift (B, dim_out, 1, 1) -> (B, dim_out, H, W)."""
        x = self.proj(x)
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.act(x)


class ResBlock(nn.Module):
    """Residual block: two ``Block``s and a shortcut, without normalisation.

    Args:
        dim_in: input channels.
        dim_out: output channels.
        time_dim: length of the time embedding, which scales and shifts the features; None for a
            block without time.
    """

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
        """(B, dim_in, H, W), time embedding (B, time_dim) or None -> (B, dim_out, H, W)."""
        scale_shift = None
        if time is not None:
            scale_shift = self.mlp(time)[:, :, None, None].chunk(2, dim=1)
        h, shortcut = self.block2(self.block1(x, scale_shift)), self.res_conv(x)
        # In place, because h is not used elsewhere and new memory for a large map takes time.
        return h.add_(shortcut) if h.dtype == shortcut.dtype else h + shortcut


class LinearAttention(nn.Module):
    """Attention with a cost linear in the number of pixels (Katharopoulos 2020, softmax features).

    Each head sums the whole map up into one (dim_head x dim_head) matrix, the context. The output
    of a pixel depends on the other pixels only through this matrix.

    Args:
        dim: channels of the map.
        heads: number of heads.
        dim_head: channels per head.
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
    """fn(norm(x)): layer norm before a module.

    Args:
        dim: channels of the map.
        fn: the module.
    """

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the output shape of ``fn``."""
        return self.fn(self.norm(x))


class Residual(nn.Module):
    """x + fn(x), for a module ``fn`` that keeps the shape."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.fn(x)


def residual_attention(dim: int) -> Residual:
    """x + attention(norm(x)) with ``LinearAttention``, for maps of ``dim`` channels."""
    return Residual(PreNorm(dim, LinearAttention(dim)))


def downsample(dim_in: int, dim_out: int) -> nn.Conv2d:
    """4x4 convolution that halves height and width: (B, dim_in, H, W) -> (B, dim_out, H/2, W/2)."""
    return nn.Conv2d(dim_in, dim_out, 4, stride=2, padding=1)


def upsample(dim_in: int, dim_out: int) -> nn.Sequential:
    """Nearest-neighbour doubling of height and width, then a 3x3 convolution.

    (B, dim_in, H, W) -> (B, dim_out, 2H, 2W).
    """
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim_in, dim_out, 3, padding=1)
    )


def plain_conv(dim_in: int, dim_out: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size, for levels that do not change the resolution."""
    return nn.Conv2d(dim_in, dim_out, 3, padding=1, bias=False)


def pad_to_multiple(x: Tensor, multiple: int, mode: str) -> Tensor:
    """Pad a map at the bottom and right until both sides are multiples of ``multiple``.

    ``reflect`` can add at most side - 1 pixels. If more are needed the last row or column is
    replicated for the rest, so every size down to 1x1 works.

    Args:
        x: (B, C, H, W).
        multiple: >= 1.
        mode: ``reflect``, or another mode of ``torch.nn.functional.pad``.

    Returns:
        (B, C, H', W') with H' and W' multiples of ``multiple``; x itself if nothing is added.
    """
    h, w = x.shape[-2:]
    bottom, right = -h % multiple, -w % multiple
    if not torch.jit.is_tracing() and not (bottom or right):
        return x
    if mode == "reflect":
        return _reflected(x, (0, right, 0, bottom))
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def reflect_border(x: Tensor, border: int) -> Tensor:
    """Add reflected pixels on all four sides; replicated ones where the map is too small.

    Args:
        x: (B, C, H, W).
        border: pixels per side, >= 0.

    Returns:
        (B, C, H + 2 border, W + 2 border); x itself for 0.
    """
    return _reflected(x, (border,) * 4) if border else x


def _reflected(x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """Pad (left, right, top, bottom) by reflection, and by replication beyond side - 1 pixels."""
    h, w = x.shape[-2:]
    if torch.jit.is_tracing():  # by an exporter: sizes are variables of the graph
        left, right, top, bottom = sides
        x = x.index_select(-2, reflected_indices(h, top, bottom))
        return x.index_select(-1, reflected_indices(w, left, right))
    limits = (w - 1, w - 1, h - 1, h - 1)
    reflected = tuple(min(side, limit) for side, limit in zip(sides, limits, strict=True))
    rest = tuple(side - done for side, done in zip(sides, reflected, strict=True))
    x = F.pad(x, reflected, mode="reflect")
    return F.pad(x, rest, mode="replicate") if any(rest) else x


def reflected_indices(length: int | Tensor, before: int | Tensor, after: int | Tensor) -> Tensor:
    """Indices of the rows or columns that padding by reflection repeats, see `reflect_border`.

    Args:
        length: rows or columns of the map, >= 1.
        before: added before the first one, >= 0.
        after: added after the last one, >= 0.

    Returns:
        LongTensor (before + length + after,).
    """
    last = torch.as_tensor(length) - 1
    place = torch.arange(before + length + after) - before
    beyond = (2 * last - place).clamp_min(0)  # of places after the last one
    return torch.where(
        place < 0, torch.minimum(-place, last), torch.where(place > last, beyond, place)
    )


def as_times(t: Tensor | int | float, batch: int, device: torch.device) -> Tensor:
    """Convert a time index, one for the batch or one per image, to a tensor (B,) on a device."""
    t = torch.as_tensor(t, device=device)
    return t.reshape(-1).expand(batch) if t.numel() == 1 else t
