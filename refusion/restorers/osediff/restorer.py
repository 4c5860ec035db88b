"""OSEDiff as a restorer: real-world photos in one call of a Stable Diffusion.

Wu et al., "One-Step Effective Diffusion Network for Real-World Image Super-Resolution", NeurIPS
2024. The latent of the enlarged photo is taken for the state at the last time; the U-Net is asked
once what noise is in it, and what is left is the restored latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from refusion.devices.precision import PRECISIONS, choose_precision
from refusion.errors import CheckpointError, ConfigError, suggest
from refusion.images.check import check_image
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, match_dtype
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
"""A text for every photo, or what makes one of the enlarged photo (3, H, W), float in [0, 1]."""

TILE = 96  # latent pixels, the authors'; so are the next two, in pixels of the photo
ENCODER_TILE, DECODER_TILE = 1024, 1792


class OSEDiff:
    """Restores photos of unknown degradation; see `Restorer` for the contract.

    Args:
        sd: a Stable Diffusion with the adapters in place, as `load_osediff` and training make it.
        upscale: output pixels per input pixel and axis.
        prompt: what is to be seen, unless `Conditions.prompt` says it; see `Prompt`.
        color_fix: key of `COLOR_FIXES`: the result's colour follows the photo's.

    Raises:
        ConfigError: upscale or color_fix is out of range.
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
        check_upscale(upscale)
        if color_fix not in COLOR_FIXES:
            raise ConfigError(
                f"color_fix: unknown value {color_fix!r}{suggest(color_fix, COLOR_FIXES)}"
            )
        check_predicts_noise(sd)
        self.sd, self.upscale, self.prompt, self.color_fix = sd, upscale, prompt, color_fix

    @property
    def info(self) -> RestorerInfo:
        """What this restorer is."""
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
        """Restore a batch of photos; see `Restorer.restore`. `tile` counts pixels of the result."""
        check_image("lq", lq, 3, integers=True)
        check_options(len(lq), seed, tile, strength)
        if steps not in (None, 1) or sampler is not None:
            raise ConfigError("steps, sampler: OSEDiff takes 1 step and has no sampler")
        with torch.no_grad():
            result = enlarged(to_float(lq), self.upscale)
            if strength > 0:
                made = self._restored(result.to(self.sd.device), seed, tile, conditions, callback)
                result = torch.lerp(result, made.to(result), strength)
        return match_dtype(result, lq)

    def _restored(
        self,
        photo: Tensor,
        seed: int | Sequence[int],
        tile: int | Literal["auto"] | None,
        conditions: Conditions,
        callback: Progress | None,
    ) -> Tensor:
        """Photos of the same size."""
        sd, tell = self.sd, callback or (lambda stage, done, total: None)
        tiles = [tile] * 3 if tile != "auto" else [ENCODER_TILE, TILE * sd.factor, DECODER_TILE]
        prompts = [self._prompt(one, conditions) for one in photo]

        def work(canvas: Tensor) -> Tensor:
            z = encode_photo(sd, canvas, tiles[0], SeededNoise(seed).initial)
            tell("encode", 1, 1)
            z0 = one_step(sd, z, sd.embed(prompts), tiles[1] and max(1, tiles[1] // sd.factor))
            tell("sample", 1, 1)
            made = decode_latent(sd, z0, tiles[2])
            tell("decode", 1, 1)
            return made

        made = retry_in_float32(lambda: on_canvas(sd, photo, work), "OSEDiff", *sd.networks())
        return COLOR_FIXES[self.color_fix](made.clamp(0, 1), photo).clamp(0, 1)

    def _prompt(self, photo: Tensor, conditions: Conditions) -> str:
        if conditions.prompt is not None:
            return conditions.prompt
        return self.prompt if isinstance(self.prompt, str) else self.prompt(photo)


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
    """Make the restorer of a Stable Diffusion and OSEDiff's weights; nothing is downloaded.

    Args:
        folder: of Stable Diffusion 2.1 base, in the layout of diffusers.
        weights: the authors' osediff.pkl, or what stage `osediff` wrote.
        upscale: see `OSEDiff`, as the next two.
        prompt: see there.
        color_fix: see there.
        merge: add the adapters to the weights: the same result to rounding, in less time.
        device: 'auto', 'cpu' or 'cuda'.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: something is missing, damaged or does not belong together.
        ConfigError: an option is unknown or out of range.
    """
    adapters = read_osediff(weights)
    # Adapted and merged before anything is rounded to a narrow format.
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
    """The restored latent: z taken for the state at the last time, less the noise found in it.

    z0 = (z - sqrt(1 - abar) noise(z, T - 1)) / sqrt(abar); at the last time of a Stable Diffusion
    what the U-Net gets wrong arrives 14.6 times as large.

    Args:
        sd: with adapters in place.
        z: latents of degraded photos (B, 4, h, w), sides multiples of `sd.align`.
        prompts: of `StableDiffusion.embed`, (B, tokens, D).
        tile: side of the tiles in latent pixels; None for none.

    Returns:
        (B, 4, h, w) float32.
    """
    last = sd.schedule.T - 1

    def predict_noise(z: Tensor, _: Tensor) -> Tensor:
        return sd.predict(z, last, prompts)

    noise = (
        predict_noise(z, z) if tile is None else blend_tiles(predict_noise, z, z, tile, sd.align)
    )
    return sd.schedule.x0(z, noise, last)


def check_predicts_noise(sd: StableDiffusion) -> None:
    """Refuse a Stable Diffusion of another parameterisation than OSEDiff's.

    Raises:
        CheckpointError: it predicts velocity.
    """
    if sd.schedule.prediction != "epsilon":
        raise CheckpointError(
            f"{sd.folder}: predicts '{sd.schedule.prediction}'; OSEDiff needs one that predicts "
            "noise ('epsilon'), as stable-diffusion-2-1-base"
        )
