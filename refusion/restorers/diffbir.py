"""DiffBIR (Lin et al., ECCV 2024): degradation removed first, detail regenerated after.

Stage 1, a regression, removes what is not the photo's: blur, noise, compression. Stage 2 draws a
latent of a Stable Diffusion whose control branch sees the latent of stage 1's result. Restoration
guidance pulls each estimate of the clean latent back to that latent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.errors import ConfigError, suggest
from refusion.images.check import check_image
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, Restorer, RestorerInfo
from refusion.restorers.contract import check_options, match_dtype
from refusion.sde import SeededNoise
from refusion.stable_diffusion import (
    StableDiffusion,
    check_upscale,
    decode_latent,
    encode_photo,
    enlarged,
    on_canvas,
    retry_in_float32,
)
from refusion.stable_diffusion.color import COLOR_FIXES
from refusion.stable_diffusion.control import predict_controlled
from refusion.stable_diffusion.sampling import check_sampling, sample
from refusion.tiling.blending import blend_tiles

NEGATIVE = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"
STARTS = ("noise", "photo")


@dataclass(frozen=True)
class DiffBIRSettings:
    """How the latent is drawn; defaults are those of DiffBIR v2.

    Attributes:
        steps: network evaluations; with `cfg` other than 1, each is of two images.
        sampler: key of `refusion.stable_diffusion.sampling.SAMPLERS`.
        cfg: classifier-free guidance: 1 is none, more goes further from the negative prompt.
        prompt: what is to be seen.
        negative_prompt: what is not.
        fidelity: 0 leaves detail to the model, 1 gives the result of stage 1 through the VAE.
        control: factor of what the control branch adds.
        start: 'noise', or 'photo' for the latent of stage 1 with the noise of the last time.
        color_fix: key of `COLOR_FIXES`; the reference is the result of stage 1.

    Raises:
        ConfigError: a value is out of range.
    """

    steps: int = 50
    sampler: str = "ddpm"
    cfg: float = 4.0
    prompt: str = ""
    negative_prompt: str = NEGATIVE
    fidelity: float = 0.0
    control: float = 1.0
    start: str = "noise"
    color_fix: str = "wavelet"

    def __post_init__(self) -> None:
        """Check ranges and words."""
        check_sampling(self.sampler, self.steps, 1000)
        if not 0 <= self.fidelity <= 1:
            raise ConfigError(f"fidelity: expected 0..1, got {self.fidelity!r}")
        for key in ("cfg", "control"):
            if not math.isfinite(getattr(self, key)):
                raise ConfigError(f"{key}: expected a finite number, got {getattr(self, key)!r}")
        for key, words in (("start", STARTS), ("color_fix", COLOR_FIXES)):
            word = getattr(self, key)
            if word not in words:
                raise ConfigError(f"{key}: unknown word '{word}'{suggest(word, words)}")


class DiffBIR:
    """Restores photos of unknown degradation; see `Restorer` for the contract.

    Args:
        sd: from `load_stable_diffusion`.
        control: from `load_control`.
        stage1: what removes the degradation; None where the photos come without.
        settings: None takes the defaults.
        upscale: output pixels per pixel of the photo and axis, enlarged before stage 1.

    Raises:
        ConfigError: stage 1 must be told something, takes pairs or changes the size; upscale is
            out of range.
    """

    def __init__(
        self,
        sd: StableDiffusion,
        control: nn.Module,
        stage1: Restorer | None = None,
        settings: DiffBIRSettings | None = None,
        upscale: int = 1,
    ) -> None:
        if stage1 is not None:
            info = stage1.info
            if info.needs or info.views != 1 or info.scale != 1:
                raise ConfigError(
                    f"stage 1: the '{info.task}' model must be told more than a photo, or gives "
                    "another size; use one of blind restoration, as options/diffbir_stage1.yml"
                )
        check_upscale(upscale)
        self.sd, self.control, self.stage1 = sd, control, stage1
        self.settings, self.upscale = settings or DiffBIRSettings(), upscale

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
            sampler=self.settings.sampler,
            steps=self.settings.steps,
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
        """Restore a batch of photos; see `Restorer.restore`.

        Large photos are one latent whose noise is estimated tile by tile and blended at each step.
        """
        check_image("lq", lq, 3, integers=True)
        check_options(len(lq), seed, tile, strength)
        settings = self._settings(steps, sampler, conditions)
        photo = enlarged(to_float(lq), self.upscale)
        if strength == 0:
            return match_dtype(photo, lq)
        with torch.no_grad():
            clean = photo
            if self.stage1 is not None:
                clean = self.stage1.restore(photo, tile=tile, seed=seed)
            work = partial(
                self._regenerated,
                settings=settings,
                seeds=[seed] * len(lq) if isinstance(seed, int) else seed,
                tile=self.sd.side if tile == "auto" else tile,
                callback=callback,
            )
            result = retry_in_float32(
                lambda: on_canvas(self.sd, clean.to(self.sd.device), work),
                "DiffBIR",
                *self.sd.networks(),
                self.control,
            )
        return match_dtype(torch.lerp(photo, result.to(photo), strength), lq)

    def _settings(
        self, steps: int | None, sampler: str | None, conditions: Conditions
    ) -> DiffBIRSettings:
        asked = {"steps": steps, "sampler": sampler, "prompt": conditions.prompt}
        settings = replace(self.settings, **{k: v for k, v in asked.items() if v is not None})
        check_sampling(settings.sampler, settings.steps, self.sd.schedule.T)
        return settings

    def _regenerated(
        self,
        clean: Tensor,
        *,
        settings: DiffBIRSettings,
        seeds: Sequence[int],
        tile: int | None,
        callback: Progress | None,
    ) -> Tensor:
        """Stage 2 on photos whose sides are whole latents; [0, 1] units, not clamped."""
        sd, schedule = self.sd, self.sd.schedule
        prompts = sd.embed([settings.negative_prompt, settings.prompt])
        condition = encode_photo(sd, clean, tile)
        pull = settings.fidelity and guidance_weight(clean, sd.factor, settings.fidelity)
        latent_tile = max(condition.shape) if tile is None else max(1, tile // sd.factor)

        def predict(zt: Tensor, t: int) -> Tensor:
            output = blend_tiles(
                lambda z, shown: self._guided(z, shown, t, prompts, settings),
                zt,
                condition,
                latent_tile,
                sd.align,
            )
            if settings.fidelity == 0:
                return output
            x0 = torch.lerp(schedule.x0(zt, output, t), condition, pull)
            return schedule.output(zt, x0, t)

        start = SeededNoise(seeds).initial(condition)
        if settings.start == "photo":
            start = schedule.noised(condition, start, schedule.T - 1)
        z = sample(
            sd,
            predict,
            start,
            sampler=settings.sampler,
            steps=settings.steps,
            seeds=seeds,
            callback=None if callback is None else partial(callback, "sample"),
        )
        result = decode_latent(sd, z, tile)
        return COLOR_FIXES[settings.color_fix](result, clean)

    def _guided(
        self, zt: Tensor, condition: Tensor, t: int, prompts: Tensor, settings: DiffBIRSettings
    ) -> Tensor:
        """Output with classifier-free guidance: negative + cfg (positive - negative)."""
        ask = partial(predict_controlled, self.sd, self.control, t=t, strength=settings.control)
        negative, positive = (each.expand(len(zt), -1, -1) for each in prompts.split(1))
        if settings.cfg == 1:
            return ask(zt, condition, prompts=positive)
        both = ask(
            torch.cat([zt, zt]), torch.cat([condition] * 2), prompts=torch.cat([negative, positive])
        )
        away, towards = both.chunk(2)
        return away + settings.cfg * (towards - away)


def guidance_weight(photo: Tensor, factor: int, fidelity: float) -> Tensor:
    """Share k of the way from each estimate of x0 to the latent of stage 1, 0..1.

    k = s (w + s (1 - w)) with s = `fidelity` and w = 1 - tanh(sum of the Sobel magnitude over 2x2
    pixels), the paper's weight: near 1 where the photo is flat and near 0 at edges, so that a
    little guidance is for flat regions. k rises with s everywhere, from 0 to 1. The published step
    3000 s grad ||x0 - target||^2 is the same mix with a k that exceeds 2 and then diverges.

    Args:
        photo: result of stage 1, (B, 3, H, W) float in [0, 1], sides multiples of `factor`.
        factor: pixels per latent pixel, even.
        fidelity: 0..1.

    Returns:
        (B, 1, H / factor, W / factor).
    """
    gray = F.pad(photo.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = photo.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).expand(1, 1, 3, 3)
    magnitude = torch.hypot(F.conv2d(gray, across), F.conv2d(gray, across.mT))
    flat = 1 - torch.tanh(4 * F.avg_pool2d(magnitude, 2))
    flat = F.avg_pool2d(flat, factor // 2)
    return fidelity * torch.lerp(flat, torch.ones_like(flat), fidelity)
