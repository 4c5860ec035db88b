"""Restoration on pixels: on the photo itself, or on a reduced copy with guided upsampling."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from refusion.images.samples import store, to_float
from refusion.restorers.framed import frames_differ, restored_inside
from refusion.restorers.refusion.decomposition import decompose
from refusion.restorers.refusion.hysteresis import keep_strong_changes
from refusion.restorers.refusion.model import LoadedModel
from refusion.restorers.refusion.reverse_process import Request, sample
from refusion.tiling.guided import guided_upsample_bands
from refusion.tiling.memory import with_smaller_tiles


def restore_pixels(model: LoadedModel, request: Request, lq: Tensor) -> Tensor:
    """Restore photos with a model whose process runs on pixels.

    A model with the prediction `scattering` gives haze, see `Decomposition`. Otherwise, if the
    process runs on a reduced copy, its change of the copy is upsampled and added to the
    photos, see `refusion.tiling.guided`. With `sampling.change_limits`, weak changes are undone
    first. A frame around a photo stays as it is, see `refusion.images.frame`. Photos with different
    frames are restored one at a time, so the result does not depend on the batch.

    Args:
        model: model with a network and without a latent U-Net.
        request: arguments of the call.
        lq: photos (B, C, H, W), float32 in [0, 1]; integers are possible if the model runs on a
            reduced copy.

    Returns:
        Restored photos, like `lq`: float32, not clamped, or integers.

    Raises:
        FloatingPointError: a value is not finite and `lq` holds integers.
    """
    finds_haze = model.config.prediction == "scattering"
    # Without a reduced copy a model sees the surroundings of each pixel only.
    if not finds_haze and (model.process_side is None or request.network_inputs):
        return _changed(model, request, lq)
    if frames_differ(lq):
        parts = [restore_pixels(model, _alone(request, i), lq[i : i + 1]) for i in range(len(lq))]
        return torch.cat(parts)
    if finds_haze:
        return decompose(model, request, lq).clear(lq, request.strength, request.haze)
    return restored_inside(lambda part: _changed(model, request, part), lq, model.config.task)


def _alone(request: Request, index: int) -> Request:
    """The request for one photo of the batch: it gets the noise of its own seed."""
    noise = request.plan.noise
    seed = noise.seed if isinstance(noise.seed, int) else [noise.seed[index]]
    return replace(request, plan=replace(request.plan, noise=replace(noise, seed=seed)))


def _changed(model: LoadedModel, request: Request, lq: Tensor) -> Tensor:
    """Restored photos of a model whose output is an image."""
    copy = model.reduced_copy(lq)
    image = to_float(lq) if copy is None else copy
    tile = model.tile_side(
        model.network, lq, request.tile, None if model.process_side is None else image
    )
    mu = image.to(model.device)
    sampling = model.config.sampling
    limits = None if sampling is None else sampling.change_limits
    # The limits are those of the whole change, for every strength.
    whole = request if limits is None else replace(request, strength=1.0)
    x0 = with_smaller_tiles(lambda side: sample(model, whole, mu, side), tile)
    if limits is not None:
        kept = keep_strong_changes(mu, x0, limits, sampling.shadow_limits)
        x0 = torch.lerp(mu, kept, request.strength)
    if copy is None:
        return x0.to(lq.device)
    return _with_change((x0 - mu).to(lq.device), copy, lq)


def _with_change(change: Tensor, copy: Tensor, lq: Tensor) -> Tensor:
    """The photos `lq` plus the upsampled change of their reduced copy, computed band by band."""
    if not torch.isfinite(change).all():  # integers cannot represent such a value
        raise FloatingPointError("values that are not finite")
    out = torch.empty(lq.shape, dtype=lq.dtype, device=lq.device)
    for rows, band in guided_upsample_bands(change, copy, lq):
        store(band.add_(to_float(lq[..., rows, :])), out[..., rows, :])
    return out
