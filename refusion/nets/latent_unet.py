"""The U-Net of Refusion: an autoencoder with skip connections (CVPRW 2023, section 3.1).

The diffusion process runs in its latent. A restored image is decoded from the restored latent and
the skips of the degraded image: ``decode(z_restored, skips_lq)``. The network is stateless. It has
a fine part, which is convolutions only and can be tiled exactly, and a coarse part, the last
level, whose linear attention depends on the whole map:

    image --fine_encode--> map at 1/factor --coarse_encode--> z, coarse skips
    z, coarse skips --coarse_decode--> map at 1/factor --fine_decode, fine skips--> image

The attribute names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.hints import Bound, Channels, Length
from refusion.nets.layers import pad_to_multiple
from refusion.nets.levels import build_levels, keep_variance


@dataclass(frozen=True)
class Latent:
    """Result of ``LatentUNet.encode``.

    Attributes:
        z: latent (B, embed_dim, h, w), unbounded floats; h = 2 ceil(H / multiple), w likewise. This
            is 1/factor of the padded image.
        skips: features for the decoder, finest first: the padded image (only with ``image_skip``),
            the output of the first convolution, then two maps per level.
        size: (H, W) of the image before padding.
    """

    z: Tensor
    skips: tuple[Tensor, ...]
    size: tuple[int, int]


def with_guide(images: Tensor, guide: Tensor | None) -> Tensor:
    """Input of a ``LatentUNet``: images with the guide as additional channels.

    Args:
        images: (n * B, C, H, W).
        guide: condition per pixel, (B, G, H, W) in [0, 1], repeated n times; None for no guide.

    Returns:
        (n * B, C + G, H, W).
    """
    if guide is None:
        return images
    return torch.cat([images, guide.repeat(len(images) // len(guide), 1, 1, 1)], dim=1)


class LatentUNet(nn.Module):
    """U-Net with a small latent and skip connections to its decoder.

    Args:
        in_ch: input channels: `out_ch` channels of the image, then those of the guide.
        out_ch: channels of the image and of the output.
        ch: channels of the first level.
        ch_mult: multiplier of ``ch`` after each level; all levels but the last halve the map.
        embed_dim: channels of the latent.
        pixel_unshuffle: side k of the squares of pixels that become k^2 times as many channels
            before the first level, which takes most of the time; 1 in the published network.
        image_skip: add the output to the input image, so that fine detail does not have to pass
            through the network; not in the published network. The initial weights of the last
            convolution are small but not zero. From zero, an L1 loss, whose optimum is the median,
            does not change them when only small areas are degraded.

    Attributes:
        factor: image pixels per latent pixel and axis.
        multiple: sides are padded (reflect) to a multiple of this number.
        guide: channels of the guide, after those of the image.

    Raises:
        ConfigError: ``pixel_unshuffle`` is below 1, or ``in_ch`` is below ``out_ch``.
    """

    RENAMED_KEYS: ClassVar = {"fold": "pixel_unshuffle"}

    def __init__(
        self,
        *,
        in_ch: Channels = 3,
        out_ch: Channels = 3,
        ch: Channels = 8,
        ch_mult: Annotated[Sequence[int], Bound(1, 256), Length(1, 8)] = (4, 8, 8, 16),
        embed_dim: Channels = 8,
        pixel_unshuffle: Annotated[int, Bound(1, 64)] = 1,
        image_skip: bool = False,
    ) -> None:
        check_arguments(LatentUNet.__init__, locals())
        super().__init__()
        if pixel_unshuffle < 1:
            raise ConfigError(f"pixel_unshuffle: expected at least 1, got {pixel_unshuffle}")
        if in_ch < out_ch:
            raise ConfigError(f"in_ch: expected at least out_ch = {out_ch}, got {in_ch}")
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
        if image_skip:  # the first outputs are close to the image: see `image_skip`
            self.final_conv.weight.data *= 0.1

    def encode(self, x: Tensor) -> Latent:
        """Image and guide (B, in_ch, H, W) in [0, 1], any H, W >= 1 -> latent and skips."""
        size = (x.shape[-2], x.shape[-1])
        x, fine = self.fine_encode(pad_to_multiple(x, self.multiple, "reflect"))
        z, coarse = self.coarse_encode(x)
        return Latent(z, (*fine, *coarse), size)

    def decode(self, z: Tensor, skips: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Latent and skips of ``encode``, and (H, W) -> image (B, out_ch, H, W), not clamped."""
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
        """Map at 1/factor -> latent (B, embed_dim, h, w) and the two skips of the last level."""
        x, pair = self.encoder[-1](x)
        return self.latent_conv(x), pair

    def coarse_decode(self, z: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Latent and the two skips of the last level -> map at 1/factor."""
        return self.decoder[0].mix(self.post_latent_conv(z), skips)

    def fine_decode(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Map at 1/factor and the skips of ``fine_encode`` -> padded image (B, out_ch, H', W')."""
        x = self.decoder[0].leave(x)
        remaining = list(skips)
        for level in self.decoder[1:]:
            pair, remaining = remaining[-2:], remaining[:-2]
            x = level(x, pair)
        image = pixel_shuffle(self.final_conv(x + remaining[-1]), self.pixel_unshuffle)
        return image + remaining[0][:, : self.out_ch] if self.image_skip else image
