"""Networks in the published layout of Stable Diffusion 2.1 and DiffBIR, written from that layout.

Independent of diffusers: only the names and the order of the operations are the published code's
(CompVis/Stability LDM, OpenCLIP, XPixelGroup/DiffBIR), so that a conversion can be checked by what
the networks compute.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def seeded(network, seed):
    """Random weights everywhere, also where the published initialisation is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
            if name.endswith("weight") and parameter.ndim == 1:
                parameter.add_(1)
    return network.eval().requires_grad_(False)


def timestep_embedding(t, dim):
    half = dim // 2
    angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Res(nn.Module):
    def __init__(self, ch, out, emb, groups):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, ch), nn.SiLU(), nn.Conv2d(ch, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out), nn.SiLU(), nn.Dropout(0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if ch == out else nn.Conv2d(ch, out, 1)

    def forward(self, x, emb, told):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    def __init__(self, dim, told, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k = nn.Linear(dim, dim, bias=False), nn.Linear(told, dim, bias=False)
        self.to_v = nn.Linear(told, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0))

    def forward(self, x, told):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(told), self.to_v(told))
        )
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Linear(dim, 8 * dim)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim), nn.Dropout(0), nn.Linear(4 * dim, dim))


class Block(nn.Module):
    def __init__(self, dim, told, heads):
        super().__init__()
        self.attn1, self.attn2 = Attention(dim, dim, heads), Attention(dim, told, heads)
        self.ff = FeedForward(dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x, told):
        seen = self.norm1(x)
        x = x + self.attn1(seen, seen)
        x = x + self.attn2(self.norm2(x), told)
        return x + self.ff.net(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, ch, told, heads, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, ch, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(ch, ch), nn.Linear(ch, ch)
        self.transformer_blocks = nn.ModuleList([Block(ch, told, heads)])

    def forward(self, x, emb, told):
        h = self.proj_in(self.norm(x).flatten(2).mT)
        h = self.proj_out(self.transformer_blocks[0](h, told))
        return x + h.mT.unflatten(-1, x.shape[-2:])


class Down(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.op = nn.Conv2d(ch, ch, 3, stride=2, padding=1)

    def forward(self, x, emb, told):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.conv = nn.Conv2d(ch, ch, 3, padding=1)

    def forward(self, x, emb, told):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, emb, told):
        return super().forward(x)


def run(parts, x, emb, told):
    for part in parts:
        x = part(x, emb, told)
    return x


class Encoder(nn.Module):
    """What U-Net and ControlNet share; `heads` of a level is 0 where it has no attention."""

    def __init__(self, widths, per_level, heads, told, groups, channels=4):
        super().__init__()
        base, emb = widths[0], 4 * widths[0]
        self.base = base
        self.time_embed = nn.Sequential(nn.Linear(base, emb), nn.SiLU(), nn.Linear(emb, emb))
        blocks, ch, self.skips = (
            [nn.ModuleList([First(channels, base, 3, padding=1)])],
            base,
            [base],
        )
        for level, width in enumerate(widths):
            for _ in range(per_level):
                parts = [Res(ch, width, emb, groups)]
                parts += [Transformer(width, told, heads[level], groups)] if heads[level] else []
                blocks.append(nn.ModuleList(parts))
                ch = width
                self.skips.append(ch)
            if level < len(widths) - 1:
                blocks.append(nn.ModuleList([Down(ch)]))
                self.skips.append(ch)
        self.input_blocks = nn.ModuleList(blocks)
        middle = [Res(ch, ch, emb, groups), Transformer(ch, told, heads[-1] or 4, groups)]
        self.middle_block = nn.ModuleList([*middle, Res(ch, ch, emb, groups)])

    def encode(self, x, t, told):
        emb, skips = self.time_embed(timestep_embedding(t, self.base)), []
        for parts in self.input_blocks:
            x = run(parts, x, emb, told)
            skips.append(x)
        return emb, skips, run(self.middle_block, x, emb, told)


class UNet(Encoder):
    def __init__(self, widths, per_level, heads, told, groups):
        super().__init__(widths, per_level, heads, told, groups)
        skips, ch, blocks = list(self.skips), widths[-1], []
        for level in reversed(range(len(widths))):
            for index in range(per_level + 1):
                parts = [Res(ch + skips.pop(), widths[level], 4 * widths[0], groups)]
                ch = widths[level]
                parts += [Transformer(ch, told, heads[level], groups)] if heads[level] else []
                parts += [Up(ch)] if level and index == per_level else []
                blocks.append(nn.ModuleList(parts))
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(
            nn.GroupNorm(groups, ch), nn.SiLU(), nn.Conv2d(ch, 4, 3, padding=1)
        )

    def forward(self, x, t, told, controls=None):
        emb, skips, x = self.encode(x, t, told)
        controls = list(controls or [0] * (len(skips) + 1))
        x = x + controls.pop()
        for parts in self.output_blocks:
            x = run(parts, torch.cat([x, skips.pop() + controls.pop()], dim=1), emb, told)
        return self.out(x)


class ControlNet(Encoder):
    """DiffBIR's: state and condition are concatenated, no hint network."""

    def __init__(self, widths, per_level, heads, told, groups):
        super().__init__(widths, per_level, heads, told, groups, channels=8)
        self.zero_convs = nn.ModuleList([nn.Sequential(nn.Conv2d(ch, ch, 1)) for ch in self.skips])
        self.middle_block_out = nn.Sequential(nn.Conv2d(widths[-1], widths[-1], 1))

    def forward(self, x, condition, t, told):
        _, skips, x = self.encode(torch.cat([x, condition], dim=1), t, told)
        own = [zero(skip) for zero, skip in zip(self.zero_convs, skips, strict=True)]
        return [*own, self.middle_block_out(x)]


class VaeRes(nn.Module):
    def __init__(self, ch, out, groups):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(groups, n, eps=1e-6) for n in (ch, out))
        self.conv1, self.conv2 = (nn.Conv2d(n, out, 3, padding=1) for n in (ch, out))
        if ch != out:
            self.nin_shortcut = nn.Conv2d(ch, out, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class VaeAttention(nn.Module):
    def __init__(self, ch, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, ch, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(ch, ch, 1) for _ in range(4))

    def forward(self, x):
        seen = self.norm(x)
        q, k, v = (part(seen).flatten(2) for part in (self.q, self.k, self.v))
        weights = (q.mT @ k / math.sqrt(q.shape[1])).softmax(dim=-1)
        return x + self.proj_out((v @ weights.mT).unflatten(-1, x.shape[-2:]))


def middle(ch, groups):
    parts = {"block_1": VaeRes(ch, ch, groups), "attn_1": VaeAttention(ch, groups)}
    return nn.ModuleDict({**parts, "block_2": VaeRes(ch, ch, groups)})


class VaeHalf(nn.Module):
    """Encoder or decoder; the decoder's levels are numbered from the finest."""

    def __init__(self, widths, per_level, groups, first, last, down):
        super().__init__()
        self.is_encoder = down
        order = list(enumerate(widths)) if down else list(reversed(list(enumerate(widths))))
        ch, levels = order[0][1], {}
        self.conv_in = nn.Conv2d(first, ch, 3, padding=1)
        if not down:
            self.mid = middle(ch, groups)
        for place, (level, width) in enumerate(order):
            blocks = []
            for _ in range(per_level):
                blocks.append(VaeRes(ch, width, groups))
                ch = width
            parts = {"block": nn.ModuleList(blocks)}
            if place < len(order) - 1:
                conv = nn.Conv2d(ch, ch, 3, stride=2) if down else nn.Conv2d(ch, ch, 3, padding=1)
                parts["downsample" if down else "upsample"] = nn.ModuleDict({"conv": conv})
            levels[level] = nn.ModuleDict(parts)
        stack = nn.ModuleList([levels[level] for level in sorted(levels)])
        setattr(self, "down" if down else "up", stack)
        if down:
            self.mid = middle(ch, groups)
        self.norm_out = nn.GroupNorm(groups, ch, eps=1e-6)
        self.conv_out = nn.Conv2d(ch, last, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        if not self.is_encoder:
            x = self.middle(x)
        for parts in self.down if self.is_encoder else reversed(self.up):
            for block in parts["block"]:
                x = block(x)
            if "downsample" in parts:
                x = parts["downsample"]["conv"](F.pad(x, (0, 1, 0, 1)))
            if "upsample" in parts:
                x = parts["upsample"]["conv"](F.interpolate(x, scale_factor=2, mode="nearest"))
        x = self.middle(x) if self.is_encoder else x
        return self.conv_out(F.silu(self.norm_out(x)))

    def middle(self, x):
        return self.mid["block_2"](self.mid["attn_1"](self.mid["block_1"](x)))


class Autoencoder(nn.Module):
    def __init__(self, widths, per_level, groups):
        super().__init__()
        self.encoder = VaeHalf(widths, per_level, groups, 3, 8, down=True)
        self.decoder = VaeHalf(widths, per_level + 1, groups, 4, 3, down=False)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def encode(self, x):
        return self.quant_conv(self.encoder(x))

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


class TextBlock(nn.Module):
    def __init__(self, dim, heads, inner):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        parts = {"c_fc": nn.Linear(dim, inner), "c_proj": nn.Linear(inner, dim)}
        self.mlp = nn.ModuleDict(parts)

    def forward(self, x, mask):
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Text(nn.Module):
    """The text half of OpenCLIP, read before its last block."""

    def __init__(self, words, dim, layers, heads, inner, length):
        super().__init__()
        self.token_embedding = nn.Embedding(words, dim)
        self.positional_embedding = nn.Parameter(torch.empty(length, dim))
        blocks = nn.ModuleList([TextBlock(dim, heads, inner) for _ in range(layers)])
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_final = nn.LayerNorm(dim)
        self.text_projection = nn.Parameter(torch.empty(dim, dim))
        self.logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding
        mask = torch.full((len(x[0]), len(x[0])), float("-inf")).triu(1)
        for block in self.transformer["resblocks"][:-1]:
            x = block(x, mask)
        return self.ln_final(x)
