"""The restorer OSEDiff: blind restoration with one call of the U-Net of a Stable Diffusion.

Wu et al., "One-Step Effective Diffusion Network for Real-World Image Super-Resolution", NeurIPS
2024. The latent of the enlarged photo is used as the state at the last time. The U-Net predicts its
noise once, and the estimate of the clean latent that follows is the restored latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.devices.precision import PRECISIONS, choose_precision
from refusion.errors import CheckpointError, ConfigError, suggest
from refusion.images.check import check_image
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, keep_flat_photos, match_dtype
from refusion.restorers.osediff.weights import apply_osediff, read_osediff
from refusion.sde import SeededNoise
from refusion.stable_diffusion import (
    StableDiffusion,
    check_upscale,
    decode_latent,
    encode_photo,
    enlarged,
    load_stable_diffusion,
    lora,
    on_canvas,
    retry_in_float32,
)
from refusion.stable_diffusion.color import COLOR_FIXES
from refusion.stable_diffusion.folder import cast
from refusion.tiling.blending import blend_tiles

Prompt = str | Callable[[Tensor], str]
"""One text for all photos, or a function that returns the text for an enlarged photo (3, H, W),
float in [0, 1]."""

# Default sides of the tiles, those of the published code.
TILE = 96  # latent pixels
ENCODER_TILE, DECODER_TILE = 1024, 1792  # pixels of the result


class OSEDiff:
    """Restores photos of unknown degradation; see `Restorer` for the contract.

    Args:
        sd: a Stable Diffusion with attached adapters, see `load_osediff`.
        upscale: output pixels per input pixel and axis, 1..16.
        prompt: describes the photo, see `Prompt`; `Conditions.prompt` of a call replaces it.
        color_fix: key of `COLOR_FIXES`; the reference is the enlarged photo.

    Raises:
        ConfigError: `upscale` is out of range, or `color_fix` is unknown.
        CheckpointError: the Stable Diffusion does not predict noise.
    """

    def __init__(
        self,
        sd: StableDiffusion,
        *,
        upscale: int = 1,
        prompt: Prompt = "",
        color_fix: str = "adain",
    ) -> None:
        check_arguments(OSEDiff.__init__, locals())
        check_upscale(upscale)
        if color_fix not in COLOR_FIXES:
            raise ConfigError(
                f"color_fix: unknown value {color_fix!r}{suggest(color_fix, COLOR_FIXES)}"
            )
        check_predicts_noise(sd)
        self.sd, self.upscale, self.prompt, self.color_fix = sd, upscale, prompt, color_fix

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        return RestorerInfo(
            family=type(self).__name__,
            task="blind",
            scale=self.upscale,
            views=1,
            needs=frozenset(),
            stochastic=True,
            sampler=None,
            steps=1,
            factor=self.sd.factor,
            tiling="blended",
            device=str(self.sd.device),
            precision=self.sd.precision,
            optional=frozenset({"prompt"}),
        )

    def restore(
        self,
        lq: Tensor,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        tile: int | Literal["auto"] | None = "auto",
        conditions: Conditions = NO_CONDITIONS,
        strength: float = 1.0,
        callback: Progress | None = None,
    ) -> Tensor:
        """Restore a batch of photos; see `Restorer.restore`.

        `tile` is in pixels of the result. 'auto' is the sizes of the published code: `ENCODER_TILE`
        and `DECODER_TILE` for the VAE, `TILE` for the U-Net. `steps` is 1 or None, `sampler` None.
        """
        check_image("lq", lq, 3, integers=True)
        check_options(len(lq), seed, tile, strength)
        if steps not in (None, 1) or sampler is not None:
            raise ConfigError(
                "steps, sampler: OSEDiff takes 1 step and has no sampler; leave them out"
            )
        with torch.no_grad():
            photo = enlarged(to_float(lq), self.upscale)
            result = photo
            if strength > 0:
                restored = self._sample(photo.to(self.sd.device), seed, tile, conditions, callback)
                result = torch.lerp(photo, restored.to(photo), strength)
        return match_dtype(keep_flat_photos(result, photo), lq)

    def _sample(
        self,
        photo: Tensor,
        seed: int | Sequence[int],
        tile: int | Literal["auto"] | None,
        conditions: Conditions,
        callback: Progress | None,
    ) -> Tensor:
        """Restored photos (B, 3, H, W) in [0, 1], of the same size as the enlarged `photo`."""
        sd, report = self.sd, callback or (lambda stage, done, total: None)
        encoder_tile, unet_tile, decoder_tile = _tile_sides(tile, sd.factor)
        prompts = [self._prompt(one, conditions) for one in photo]

        def run(canvas: Tensor) -> Tensor:
            z = encode_photo(sd, canvas, encoder_tile, SeededNoise(seed).initial)
            report("encode", 1, 1)
            z0 = one_step(sd, z, sd.embed(prompts), unet_tile)
            report("sample", 1, 1)
            image = decode_latent(sd, z0, decoder_tile)
            report("decode", 1, 1)
            return image

        restored = retry_in_float32(lambda: on_canvas(sd, photo, run), "OSEDiff", *sd.networks())
        return COLOR_FIXES[self.color_fix](restored.clamp(0, 1), photo).clamp(0, 1)

    def _prompt(self, photo: Tensor, conditions: Conditions) -> str:
        """Prompt of one enlarged photo (3, H, W)."""
        if conditions.prompt is not None:
            return conditions.prompt
        return self.prompt if isinstance(self.prompt, str) else self.prompt(photo)


def _tile_sides(
    tile: int | Literal["auto"] | None, factor: int
) -> tuple[int | None, int | None, int | None]:
    """Sides of the tiles of encoder and decoder in pixels, and of the U-Net in latent pixels.

    Returns:
        Sides for the encoder, the U-Net and the decoder; None for no tiles.
    """
    if tile == "auto":
        return ENCODER_TILE, TILE, DECODER_TILE
    return tile, None if tile is None else max(1, tile // factor), tile


def load_osediff(
    folder: str | Path,
    weights: str | Path,
    *,
    upscale: int = 1,
    prompt: Prompt = "",
    color_fix: str = "adain",
    merge: bool = False,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> OSEDiff:
    """Load a Stable Diffusion with OSEDiff's adapters; nothing is downloaded.

    Args:
        folder: folder of Stable Diffusion 2.1 base, in the layout of diffusers.
        weights: the published osediff.pkl, or model.safetensors of training stage `osediff`.
        upscale: see `OSEDiff`.
        prompt: see `OSEDiff`.
        color_fix: see `OSEDiff`.
        merge: add the adapters to the weights of the layers; the result is the same except for
            rounding, in less time.
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: a file is missing or damaged, or the adapters belong to another Stable
            Diffusion.
        ConfigError: an option is unknown or out of range.
    """
    check_arguments(load_osediff, locals())
    adapters = read_osediff(weights)
    # The adapters are attached and merged in float32, and then cast.
    sd = load_stable_diffusion(folder, device=device, precision="fp32")
    dtype = choose_precision(precision, sd.device)
    apply_osediff(sd, adapters, weights)
    for network in (sd.unet, sd.vae) if merge else ():
        lora.merge(network)
    if dtype != PRECISIONS["fp32"]:
        for network in sd.networks():
            cast(network, dtype=dtype)
    return OSEDiff(sd, upscale=upscale, prompt=prompt, color_fix=color_fix)


def one_step(sd: StableDiffusion, z: Tensor, prompts: Tensor, tile: int | None = None) -> Tensor:
    """Restored latent z0 from the latent z of the degraded photo, with one call of the U-Net.

    z0 = (z - sqrt(1 - abar) noise(z, T - 1)) / sqrt(abar), with abar at the last time T - 1. For
    the schedule of Stable Diffusion, 1 / sqrt(abar) is 14.6, so an error of the predicted noise is
    14.6 times as large in z0.

    Args:
        sd: a Stable Diffusion with attached adapters.
        z: latents of degraded photos (B, 4, h, w), both sides multiples of `sd.align`.
        prompts: embeddings from `StableDiffusion.embed`, (B, tokens, D).
        tile: side of the tiles in latent pixels; None for no tiles.

    Returns:
        z0, (B, 4, h, w) float32.
    """
    last = sd.schedule.T - 1

    def predict_noise(z: Tensor, _: Tensor) -> Tensor:
        return sd.predict(z, last, prompts)

    if tile is None:
        noise = predict_noise(z, z)
    else:
        noise = blend_tiles(predict_noise, z, z, tile, sd.align, is_square=True)
    return sd.schedule.x0(z, noise, last)


def check_predicts_noise(sd: StableDiffusion) -> None:
    """Check that a Stable Diffusion predicts noise, as OSEDiff needs it.

    Raises:
        CheckpointError: it predicts another quantity, such as v ('v_prediction').
    """
    if sd.schedule.prediction != "epsilon":
        raise CheckpointError(
            f"{sd.folder}: predicts '{sd.schedule.prediction}'; OSEDiff needs one that predicts "
            "noise ('epsilon'), for example stable-diffusion-2-1-base"
        )
