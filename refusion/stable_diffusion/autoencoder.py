"""Encoding of photos to the latents of a Stable Diffusion and decoding, in tiles for large photos.

The group norms of all tiles use the statistics of a small copy of the photo (`norms`), so the mean
colours of the tiles agree. The result still differs from the untiled one, because attention and
convolutions see only the pixels of one tile. Overlapping tiles are blended.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.stable_diffusion.folder import StableDiffusion
from refusion.stable_diffusion.norms import fixed_norms, measure_norms
from refusion.tiling.blending import blend_scaled


def encode_photo(
    sd: StableDiffusion,
    photo: Tensor,
    tile: int | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Encode photos with the VAE: the mean of its posterior, or a sample from the posterior.

    Args:
        sd: model whose VAE is used.
        photo: (B, 3, H, W) float in [0, 1]; H and W are multiples of `sd.factor`.
        tile: side of the tiles in pixels; None encodes the whole photo at once.
        noise: function that returns standard normal noise of the shape of its argument, for
            example `SeededNoise.initial`; None returns the mean of the posterior.

    Returns:
        Latent (B, 4, H / factor, W / factor) float32, multiplied by the VAE's scaling factor, as
        the U-Net expects it.
    """
    check_arguments(encode_photo, locals())

    def moments(image: Tensor) -> Tensor:
        posterior = sd.vae.encode(image.to(sd.vae.dtype)).latent_dist
        return torch.cat([posterior.mean, posterior.logvar], dim=1)

    def run(image: Tensor) -> Tensor:
        return moments(image).float()

    image = 2 * photo.float() - 1
    side = _whole_latents(tile, sd)
    mean, logvar = _tiled(sd.vae.encoder, run, image, side, sd, down=sd.factor).chunk(2, dim=1)
    if noise is not None:
        mean = mean + (logvar / 2).exp() * noise(mean)
    return mean * sd.vae.config.scaling_factor


def decode_latent(sd: StableDiffusion, z: Tensor, tile: int | None = None) -> Tensor:
    """Decode latents with the VAE.

    Args:
        sd: model whose VAE is used.
        z: latent (B, 4, h, w), scaled as `encode_photo` returns it.
        tile: side of the tiles in pixels of the photo; None decodes the whole latent at once.

    Returns:
        (B, 3, factor * h, factor * w) float32 in [0, 1] units, not clamped.
    """
    check_arguments(decode_latent, locals())

    def run(z: Tensor) -> Tensor:
        return sd.vae.decode(z.to(sd.vae.dtype)).sample.float()

    z = z.float() / sd.vae.config.scaling_factor
    latent_tile = tile and _whole_latents(tile, sd) // sd.factor
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
    """`run(x)`, in tiles of `tile` pixels of x; `network` contains the group norms that run."""
    if tile is None or max(x.shape[-2:]) <= tile:
        return run(x)
    small = _small_copy(x, tile, down)
    with fixed_norms(measure_norms(network, lambda: run(small))):
        return blend_scaled(run, (x,), tile, down, up, down)


def _small_copy(x: Tensor, side: int, multiple: int) -> Tensor:
    """Reduced copy, sides at most `side`, with the mean and standard deviation of each channel.

    Single pixels are taken, because averages of noise-like latents have a smaller deviation.
    """
    scale = side / max(x.shape[-2:])
    size = [max(1, int(length * scale) // multiple) * multiple for length in x.shape[-2:]]
    small = F.interpolate(x, size=size, mode="nearest-exact")
    (variance, mean), (small_variance, small_mean) = (
        torch.var_mean(each, dim=(-2, -1), keepdim=True, correction=0) for each in (x, small)
    )
    std_ratio = ((variance + 1e-10) / (small_variance + 1e-10)).sqrt()
    return (small - small_mean) * std_ratio + mean


def _whole_latents(tile: int | None, sd: StableDiffusion) -> int | None:
    """Side of a tile in photo pixels, rounded down to a multiple of the VAE's factor."""
    return tile and max(1, tile // sd.factor) * sd.factor
