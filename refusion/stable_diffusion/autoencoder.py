"""Photos to the latents of a Stable Diffusion and back, tile by tile where they are large.

All tiles of a photo normalise with the statistics of a small copy of it (`norms`), so their mean
colours agree; what is left of tiles is that attention and the reach of convolutions end at their
borders, where they are blended.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.stable_diffusion.folder import StableDiffusion
from refusion.stable_diffusion.norms import fixed_norms, measure_norms
from refusion.tiling.blending import blend_scaled


def encode_photo(
    sd: StableDiffusion,
    photo: Tensor,
    tile: int | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Latent of photos: the mean of the VAE's posterior, or a draw from it, scaled as the U-Net's.

    Args:
        sd: whose VAE.
        photo: (B, 3, H, W) float in [0, 1], sides multiples of `sd.factor`.
        tile: side of the tiles in pixels; None for the whole photo.
        noise: `mean -> standard noise` of its shape, such as `SeededNoise.initial`; None for the
            mean.

    Returns:
        (B, 4, H / factor, W / factor) float32.
    """

    def moments(image: Tensor) -> Tensor:
        found = sd.vae.encode(image.to(sd.vae.dtype)).latent_dist
        return torch.cat([found.mean, found.logvar], dim=1)

    def run(image: Tensor) -> Tensor:
        return moments(image).float()

    image = 2 * photo.float() - 1
    mean, logvar = _tiled(sd.vae.encoder, run, image, _whole(tile, sd), sd, down=sd.factor).chunk(
        2, dim=1
    )
    if noise is not None:
        mean = mean + (logvar / 2).exp() * noise(mean)
    return mean * sd.vae.config.scaling_factor


def decode_latent(sd: StableDiffusion, z: Tensor, tile: int | None = None) -> Tensor:
    """Photos of latents.

    Args:
        sd: whose VAE.
        z: (B, 4, h, w), scaled as the U-Net's.
        tile: side of the tiles in pixels of the photo; None for the whole.

    Returns:
        (B, 3, factor * h, factor * w) float32 in [0, 1] units, not clamped.
    """

    def run(z: Tensor) -> Tensor:
        return sd.vae.decode(z.to(sd.vae.dtype)).sample.float()

    z = z.float() / sd.vae.config.scaling_factor
    latent_tile = tile and _whole(tile, sd) // sd.factor
    return (_tiled(sd.vae.decoder, run, z, latent_tile, sd, up=sd.factor) + 1) / 2


def _tiled(
    network: nn.Module,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: int | None,
    sd: StableDiffusion,
    up: int = 1,
    down: int = 1,
) -> Tensor:
    """`run(x)`, of which `network` is the part with norms; `tile` in pixels of x."""
    if tile is None or max(x.shape[-2:]) <= tile:
        return run(x)
    small = _small_copy(x, tile, down)
    with fixed_norms(measure_norms(network, lambda: run(small))):
        return blend_scaled(run, (x,), tile, down, up, down)


def _small_copy(x: Tensor, side: int, multiple: int) -> Tensor:
    """A copy of maps no longer than `side`, with the mean and spread of each channel kept.

    Pixels are picked, not averaged: averages of noise-like latents would have less spread.
    """
    scale = side / max(x.shape[-2:])
    size = [max(1, int(length * scale) // multiple) * multiple for length in x.shape[-2:]]
    small = F.interpolate(x, size=size, mode="nearest-exact")
    (variance, mean), (own_variance, own_mean) = (
        torch.var_mean(each, dim=(-2, -1), keepdim=True, correction=0) for each in (x, small)
    )
    return (small - own_mean) * ((variance + 1e-10) / (own_variance + 1e-10)).sqrt() + mean


def _whole(tile: int | None, sd: StableDiffusion) -> int | None:
    """Side of a tile in whole latent pixels."""
    return tile and max(1, tile // sd.factor) * sd.factor
