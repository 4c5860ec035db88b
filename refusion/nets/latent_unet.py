"""The skip-connected U-Net whose latent Refusion diffuses in (CVPRW 2023, section 3.1).

Restoring replaces the latent, keeps the degraded image's skips: ``decode(z_restored, skips_lq)``.
The network is stateless. It consists of a fine part (convolutions only, so it can be tiled
exactly) and a coarse part (the last level, whose linear attention sees the whole map):

    image --fine_encode--> map at 1/factor --coarse_encode--> z, coarse skips
    z, coarse skips --coarse_decode--> map at 1/factor --fine_decode, fine skips--> image

Attribute names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from refusion.errors import ConfigError
from refusion.nets.layers import pad_to_multiple
from refusion.nets.levels import build_levels, keep_variance


@dataclass(frozen=True)
class Latent:
    """What ``LatentUNet.encode`` returns.

    Attributes:
        z: latent (B, embed_dim, ceil(H / multiple) * 2, ...) at 1/factor of the padded image.
        skips: features for the decoder, finest first: the padded image where it is added to what
            is decoded, intro, then two per level.
        size: (H, W) of the image before padding.
    """

    z: Tensor
    skips: tuple[Tensor, ...]
    size: tuple[int, int]


def with_guide(images: Tensor, guide: Tensor | None) -> Tensor:
    """What a ``LatentUNet`` is given: images and, as further channels, what is known of each pixel.

    Args:
        images: (n * B, C, H, W).
        guide: (B, G, H, W), the same for all n; None for none.
    """
    if guide is None:
        return images
    return torch.cat([images, guide.repeat(len(images) // len(guide), 1, 1, 1)], dim=1)


class LatentUNet(nn.Module):
    """U-Net with a small latent and skip connections to its decoder.

    Args:
        in_ch: image channels in; those beyond `out_ch` are a guide, what is known of every pixel.
        out_ch: image channels out.
        ch: channels of the first level.
        ch_mult: multiplier of ``ch`` after each level; all levels but the last halve the map.
        embed_dim: channels of the latent.
        pixel_unshuffle: squares of so many pixels a side become channels before the first level, where most of
            the time goes; 1 in the published network.
        image_skip: decode what is added to the image, so that its detail need not pass the
            network; not in the published one. The last convolution does not start at zero: with a
            median as optimum (L1) small degraded areas would not move it away from there.

    Attributes:
        factor: image pixels per latent pixel and axis.
        multiple: sides are padded (reflect) to a multiple of this.
        guide: channels of the guide, which come after the image's.
    """

    RENAMED_KEYS: ClassVar = {"fold": "pixel_unshuffle"}

    def __init__(
        self,
        *,
        in_ch: int = 3,
        out_ch: int = 3,
        ch: int = 8,
        ch_mult: Sequence[int] = (4, 8, 8, 16),
        embed_dim: int = 8,
        pixel_unshuffle: int = 1,
        image_skip: bool = False,
    ) -> None:
        super().__init__()
        if pixel_unshuffle < 1:
            raise ConfigError(
                f"pixel_unshuffle: expected pixels a side from 1, got {pixel_unshuffle}"
            )
        depth = len(ch_mult)
        self.pixel_unshuffle = pixel_unshuffle
        self.factor = pixel_unshuffle * 2 ** (depth - 1)
        self.multiple = pixel_unshuffle * 2**depth
        self.embed_dim = embed_dim
        self.guide = in_ch - out_ch
        dims = [ch * m for m in (1, *ch_mult)]
        self.out_ch = out_ch
        self.init_conv = nn.Conv2d(in_ch * pixel_unshuffle**2, ch, 3, padding=1, bias=False)
        self.encoder, self.decoder = build_levels(dims, attention_from=depth - 1)
        self.latent_conv = nn.Conv2d(dims[-1], embed_dim, 1, bias=False)
        self.post_latent_conv = nn.Conv2d(embed_dim, dims[-1], 1, bias=False)
        self.final_conv = nn.Conv2d(ch, out_ch * pixel_unshuffle**2, 3, padding=1)
        self.image_skip = image_skip
        keep_variance(self)
        if image_skip:  # begin near the image, but not at it: see `image_skip`
            self.final_conv.weight.data *= 0.1

    def encode(self, x: Tensor) -> Latent:
        """Image (B, in_ch, H, W) in [0, 1] -> its latent and skips, for any H, W >= 1."""
        size = (x.shape[-2], x.shape[-1])
        x, fine = self.fine_encode(pad_to_multiple(x, self.multiple, "reflect"))
        z, coarse = self.coarse_encode(x)
        return Latent(z, (*fine, *coarse), size)

    def decode(self, z: Tensor, skips: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Latent and skips -> image (B, out_ch, *size), not clamped."""
        x = self.coarse_decode(z, skips[-2:])
        return self.fine_decode(x, skips[:-2])[..., : size[0], : size[1]]

    def fine_encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Padded image -> map at 1/factor and the skips of all levels but the last."""
        skips = [x] if self.image_skip else []
        x = self.init_conv(pixel_unshuffle(x, self.pixel_unshuffle))
        skips.append(x)
        for level in self.encoder[:-1]:
            x, pair = level(x)
            skips += pair
        return x, tuple(skips)

    def coarse_encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map at 1/factor -> latent and the two skips of the last level."""
        x, pair = self.encoder[-1](x)
        return self.latent_conv(x), pair

    def coarse_decode(self, z: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Latent and the last level's skips -> map at 1/factor, before it is enlarged."""
        return self.decoder[0].mix(self.post_latent_conv(z), skips)

    def fine_decode(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Map at 1/factor and the fine skips -> padded image."""
        x = self.decoder[0].leave(x)
        remaining = list(skips)
        for level in self.decoder[1:]:
            pair, remaining = remaining[-2:], remaining[:-2]
            x = level(x, pair)
        image = pixel_shuffle(self.final_conv(x + remaining[-1]), self.pixel_unshuffle)
        return image + remaining[0][:, : self.out_ch] if self.image_skip else image
