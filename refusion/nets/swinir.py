"""SwinIR (Liang et al., ICCVW 2021): restores a photo by regression, without a diffusion process.

This is the form of DiffBIR's first stage: pixel unshuffle turns the photo into a small map of many
channels for the attention, and the result has the size of the photo. The attribute names are those
of the published checkpoint. The stochastic depth of the paper, used only in training, is omitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.hints import Bound, Channels, Length, Pixels
from refusion.nets.layers import pad_to_multiple

MEAN = (0.4488, 0.4371, 0.4040)  # RGB mean of DIV2K, subtracted from the input, added to the output
APART = -100.0  # added to the attention logits of pixels that are not neighbours in the photo
HEADS = ("nearest+conv", "pixelshuffledirect")


def window_partition(x: Tensor, side: int) -> Tensor:
    """Map (B, H, W, C) -> windows (B * n, side * side, C); H and W are multiples of `side`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(2, 3)
    return x.reshape(-1, side * side, c)


def window_reverse(windows: Tensor, side: int, h: int, w: int) -> Tensor:
    """Inverse of `window_partition`: windows (B * n, side * side, C) -> map (B, h, w, C)."""
    x = windows.reshape(-1, h // side, w // side, side, side, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, h, w, windows.shape[-1])


def shift_mask(h: int, w: int, side: int) -> Tensor:
    """Mask for attention in windows of a map that was shifted cyclically by half a window.

    The shift brings pixels of opposite borders into one window. The mask suppresses the attention
    between them.

    Args:
        h: rows of the map, a multiple of `side`.
        w: columns of the map, a multiple of `side`.
        side: side of a window, even.

    Returns:
        (n, side^2, side^2) float32 for n windows: 0, or `APART` for pixels of different regions.
    """
    regions = []
    for length in (h, w):
        place = torch.arange(length)
        regions.append((place >= length - side).long() + (place >= length - side // 2).long())
    region = 3 * regions[0][:, None] + regions[1]
    region = window_partition(region[None, :, :, None], side)[..., 0]
    is_apart = region[:, :, None] != region[:, None, :]
    return torch.where(is_apart, APART, 0.0)


def _relative_positions(side: int) -> Tensor:
    """Row number in the bias table for each pair of pixels of a window, (side^2, side^2)."""
    rows, columns = (p.flatten() for p in torch.meshgrid([torch.arange(side)] * 2, indexing="ij"))
    down = rows[:, None] - rows + side - 1
    right = columns[:, None] - columns + side - 1
    return down * (2 * side - 1) + right


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias per relative position.

    Args:
        dim: channels, a multiple of `heads`.
        side: side of a window in pixels.
        heads: number of heads.
    """

    def __init__(self, dim: int, side: int, heads: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * side - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # This buffer is part of the published weights. `forward` computes the positions itself, so
        # a file with other values has no effect.
        self.register_buffer("relative_position_index", _relative_positions(side))
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows (B * n, N, dim), and `shift_mask` (n, N, N) for shifted windows -> same shape."""
        count, pixels, dim = x.shape
        qkv = self.qkv(x).reshape(count, pixels, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        places = _relative_positions(self.side).to(x.device)
        bias = self.relative_position_bias_table[places].permute(2, 0, 1)
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
        if mask is not None:
            by_photo = weights.reshape(-1, mask.shape[0], *weights.shape[1:])
            weights = (by_photo + mask[:, None]).flatten(0, 1)
        out = weights.softmax(dim=-1).to(v.dtype) @ v
        return self.proj(out.transpose(1, 2).reshape(count, pixels, dim))


class Mlp(nn.Module):
    """Two linear layers at every pixel with a GELU between them: `dim` -> `hidden` -> `dim`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Attention in windows, then an `Mlp`; both are residual.

    Args:
        dim: channels of the map.
        heads: number of heads.
        side: side of a window in pixels of the map.
        mlp_ratio: hidden channels of the `Mlp` / `dim`.
        map_side: side of the map of the mask that is stored with the weights.
        is_shifted: whether the windows are shifted by half a window, as in every second block.
    """

    def __init__(
        self, dim: int, heads: int, side: int, mlp_ratio: float, *, map_side: int, is_shifted: bool
    ) -> None:
        super().__init__()
        self.side, self.shift = side, side // 2 if is_shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, side, heads)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        # This mask is part of the published weights. `forward` uses the mask that `SwinIR` computes
        # for the size of the map.
        mask = shift_mask(map_side, map_side, side) if is_shifted else None
        self.register_buffer("attn_mask", mask)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, H, W, dim) and its `shift_mask` -> the same shape."""
        _, h, w, _ = x.shape
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), dims=(1, 2))
        y = self.attn(window_partition(y, self.side), mask if self.shift else None)
        y = window_reverse(y, self.side, h, w)
        if self.shift:
            y = y.roll((self.shift, self.shift), dims=(1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))


class _Blocks(nn.Module):
    def __init__(self, blocks: Sequence[SwinBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x


class ResidualSwinGroup(nn.Module):
    """x + convolution(blocks(x)), for a sequence of `SwinBlock` on a map of `dim` channels."""

    def __init__(self, blocks: Sequence[SwinBlock], dim: int) -> None:
        super().__init__()
        self.residual_group = _Blocks(blocks)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, H, W, dim) and its `shift_mask` -> the same shape."""
        y = self.residual_group(x, mask).permute(0, 3, 1, 2)
        return x + self.conv(y).permute(0, 2, 3, 1)


class SwinIR(nn.Module):
    """Maps a degraded photo to a restored photo of the same size; see the module's docstring.

    Args:
        embed_dim: channels of the map that the attention works on, a multiple of each number of
            heads.
        depths: number of blocks of each group.
        num_heads: number of attention heads of each group.
        window_size: side of a window in pixels of the map, even.
        mlp_ratio: hidden channels of the `Mlp` / `embed_dim`.
        unshuffle: photo pixels per pixel of the map and axis, a power of two from 2.
        upsampler: method that turns the map into a photo. ``nearest+conv``, as published, repeats
            doubling and convolution. ``pixelshuffledirect`` is one convolution and much faster.
        num_feat: channels during the doubling; only for ``nearest+conv``.
        residual: add the output to the photo; the initial output is zero. Not in the published
            network.
        img_size: side of the map whose `shift_mask` is stored with the weights, as published; a
            multiple of `window_size`.

    Raises:
        ConfigError: a value is outside its range, or depths and num_heads have different lengths.

    Attributes:
        is_regression: True, since the network is called with the photo alone.
        takes_float32: True, since the photo is added to the output.
    """

    is_regression: ClassVar[bool] = True
    takes_float32: ClassVar[bool] = True

    def __init__(
        self,
        *,
        embed_dim: Channels = 180,
        depths: Annotated[Sequence[int], Bound(1, 256), Length(1, 64)] = (6,) * 8,
        num_heads: Annotated[Sequence[int], Bound(1, 1024), Length(1, 64)] = (6,) * 8,
        window_size: Annotated[int, Bound(2, 64)] = 8,
        mlp_ratio: Annotated[float, Bound(0, 64, above=True)] = 2.0,
        unshuffle: Annotated[int, Bound(2, 64)] = 8,
        upsampler: str = "nearest+conv",
        num_feat: Channels = 64,
        residual: bool = False,
        img_size: Pixels = 64,
    ) -> None:
        check_arguments(SwinIR.__init__, locals())
        super().__init__()
        _check(embed_dim, depths, num_heads, window_size, unshuffle, upsampler, img_size)
        self.window_size, self.unshuffle, self.residual = window_size, unshuffle, residual
        self.factor = window_size * unshuffle
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Sequential(
            nn.PixelUnshuffle(unshuffle), nn.Conv2d(3 * unshuffle**2, embed_dim, 3, padding=1)
        )
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(embed_dim)})

        self.layers = nn.ModuleList(
            ResidualSwinGroup(
                [
                    SwinBlock(
                        *(embed_dim, heads, window_size, mlp_ratio),
                        map_side=img_size,
                        is_shifted=number % 2 == 1,
                    )
                    for number in range(depth)
                ],
                embed_dim,
            )
            for depth, heads in zip(depths, num_heads, strict=True)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self._build_head(upsampler, embed_dim, num_feat)
        self._init_weights(residual=residual)

    def _init_weights(self, *, residual: bool) -> None:
        """Set the initial weights that differ from PyTorch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if residual:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def _build_head(self, upsampler: str, dim: int, feat: int) -> None:
        self.doublings = int(math.log2(self.unshuffle)) if upsampler == "nearest+conv" else 0
        if upsampler == "pixelshuffledirect":
            out = nn.Conv2d(dim, 3 * self.unshuffle**2, 3, padding=1)
            self.upsample = nn.Sequential(out, nn.PixelShuffle(self.unshuffle))
            return
        before = nn.Conv2d(dim, feat, 3, padding=1), nn.LeakyReLU()
        self.conv_before_upsample = nn.Sequential(*before)
        for number in range(self.doublings):
            self.add_module(f"conv_up{number + 1}", nn.Conv2d(feat, feat, 3, padding=1))
        self.conv_hr = nn.Conv2d(feat, feat, 3, padding=1)
        self.conv_last = nn.Conv2d(feat, 3, 3, padding=1)

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that computes the output."""
        return self.conv_last if self.doublings else self.upsample[0]

    @property
    def channels_at_once(self) -> int:
        """Estimate of the values in memory at the same time, per pixel of the photo."""
        if self.doublings:  # input and output of a layer, and the copies that the kernels make
            return 5 * self.conv_hr.out_channels
        dim = self.norm.normalized_shape[0]
        return 8 + 25 * dim // self.unshuffle**2

    def forward(self, x: Tensor) -> Tensor:
        """Restore photos.

        Args:
            x: (B, 3, H, W) in [0, 1], any size; padded by reflection to multiples of `factor`.

        Returns:
            The same shape, near [0, 1] but not clamped.
        """
        h, w = x.shape[-2:]
        mean = self.mean.to(x.dtype)
        first = self.conv_first(pad_to_multiple(x, self.factor, "reflect") - mean)
        out = self._head(first + self._body(first))[..., :h, :w]
        return x + out if self.residual else out + mean

    def _body(self, x: Tensor) -> Tensor:
        mask = shift_mask(*x.shape[-2:], self.window_size).to(x)
        x = self.patch_embed["norm"](x.permute(0, 2, 3, 1))
        for group in self.layers:
            x = group(x, mask)
        return self.conv_after_body(self.norm(x).permute(0, 3, 1, 2))

    def _head(self, x: Tensor) -> Tensor:
        if not self.doublings:
            return self.upsample(x)
        x = self.conv_before_upsample(x)
        for number in range(self.doublings):
            larger = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.leaky_relu(self.get_submodule(f"conv_up{number + 1}")(larger), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


def _check(
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    window: int,
    unshuffle: int,
    upsampler: str,
    img_size: int,
) -> None:
    if len(depths) != len(heads) or any(dim % count for count in heads):
        raise ConfigError(
            f"depths, num_heads: expected one number of heads per group, divisors of embed_dim "
            f"{dim}, got {list(depths)} and {list(heads)}"
        )
    if unshuffle < 2 or unshuffle & (unshuffle - 1):
        raise ConfigError(f"unshuffle: expected a power of two from 2, got {unshuffle}")
    if upsampler not in HEADS:
        raise ConfigError(f"upsampler: expected one of {', '.join(HEADS)}, got {upsampler!r}")
    if img_size % window or window % 2:
        raise ConfigError(
            f"img_size, window_size: expected a multiple of an even window, got {img_size} and "
            f"{window}"
        )
