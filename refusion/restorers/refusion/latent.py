"""Restoration in the latent of a `LatentUNet`: encode, run the reverse process, decode.

The latent z of the degraded photo is the mean mu that the process reverts to. The restored latent
is decoded with the skips of the degraded photo (Refusion, CVPRW 2023, section 3.1).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from refusion.restorers.refusion.model import LoadedModel
from refusion.restorers.refusion.reverse_process import Request, sample
from refusion.tiling.exact import decode_tiled, encode_tiled
from refusion.tiling.guided import guided_upsample
from refusion.tiling.memory import with_smaller_tiles


def restore_latent(model: LoadedModel, request: Request, lq: Tensor) -> Tensor:
    """Restore photos with a model that has a latent U-Net.

    Args:
        model: the model; if it has no noise network, the photos are only encoded and decoded.
        request: arguments of the call.
        lq: photos (B, C, H, W), float32 in [0, 1] or integers.

    Returns:
        Restored photos, like `lq`: float32, not clamped, or integers.

    Raises:
        FloatingPointError: a value is not finite and `lq` holds integers.
    """
    unet, guide = model.latent_unet, request.guide
    tile = model.tile_side(unet, lq, request.tile)
    encoding, decoding = request.progress("encode"), request.progress("decode")
    latent = with_smaller_tiles(lambda side: encode_tiled(unet, lq, side, encoding, guide), tile)
    if model.network is not None:
        latent = replace(latent, z=_restored_latent(model, request, lq, latent.z.float()))
    return with_smaller_tiles(
        lambda side: decode_tiled(unet, lq, latent, side, decoding, guide), tile
    )


def _restored_latent(model: LoadedModel, request: Request, lq: Tensor, z: Tensor) -> Tensor:
    """Latent of the restored photos, from the latent z of the degraded photos; may overwrite z."""
    copy = model.reduced_copy(lq)
    if copy is None:
        return sample(model, request, z)
    mu = encode_tiled(model.latent_unet, copy, None).z.float()
    change = sample(model, request, mu) - mu
    # Both latents are padded at the bottom and on the right, by different amounts. `extent` is the
    # number of rows and columns of `mu` that the whole z corresponds to.
    extent = tuple(
        length * small / large
        for length, small, large in zip(z.shape[-2:], copy.shape[-2:], lq.shape[-2:], strict=True)
    )
    return z.add_(guided_upsample(change, mu, z, extent))
