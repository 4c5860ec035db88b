"""DiffBIR (Lin et al., ECCV 2024): blind restoration in two stages.

Stage 1, a regression network, removes the degradation: blur, noise and compression. Stage 2
generates detail: it samples a latent of a Stable Diffusion. A control branch conditions the
sampling on the latent of the result of stage 1. Restoration guidance moves each estimate of the
clean latent towards that latent.
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

from refusion.arguments import check_arguments
from refusion.errors import ConfigError, suggest
from refusion.images.check import check_image
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, Restorer, RestorerInfo
from refusion.restorers.contract import check_options, keep_flat_photos, match_dtype
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
    """Settings of stage 2; the defaults are those of DiffBIR v2.

    Attributes:
        steps: network evaluations; each evaluates two states if `cfg` is not 1.
        sampler: key of `refusion.stable_diffusion.sampling.SAMPLERS`.
        cfg: scale of classifier-free guidance, a finite number; 1 is without guidance, and a larger
            value increases the distance to the negative prompt.
        prompt: describes the photo.
        negative_prompt: describes what the photo must not look like.
        fidelity: strength of restoration guidance, 0..1; with 0 the model generates detail freely,
            and with 1 the result is that of stage 1, encoded and decoded by the VAE.
        control: factor of the output of the control branch, a finite number.
        start: start state: 'noise', or 'photo' for the latent of stage 1 with the noise of the last
            time.
        color_fix: key of `COLOR_FIXES`; the reference is the result of stage 1.

    Raises:
        ConfigError: a value is out of range, or a key is unknown.
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
        """Check ranges and keys."""
        check_sampling(self.sampler, self.steps, 1000)
        if not 0 <= self.fidelity <= 1:
            raise ConfigError(f"fidelity: expected 0..1, got {self.fidelity!r}")
        for name in ("cfg", "control"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name}: expected a finite number, got {getattr(self, name)!r}")
        for name, keys in (("start", STARTS), ("color_fix", COLOR_FIXES)):
            key = getattr(self, name)
            if key not in keys:
                raise ConfigError(f"{name}: unknown value '{key}'{suggest(key, keys)}")


class DiffBIR:
    """Restores photos of unknown degradation; see `Restorer` for the contract.

    Args:
        sd: the Stable Diffusion, see `load_stable_diffusion`.
        control: the control branch, see `refusion.stable_diffusion.control.load_control`.
        stage1: restorer that removes the degradation; None for photos without blur, noise and
            compression.
        settings: settings of stage 2; None for the defaults.
        upscale: output pixels per pixel of the photo, per axis, 1..16; photos are enlarged before
            stage 1.

    Raises:
        ConfigError: stage 1 needs conditions, restores pairs or changes the size of the photo, or
            `upscale` is out of range.
    """

    def __init__(
        self,
        sd: StableDiffusion,
        control: nn.Module,
        stage1: Restorer | None = None,
        settings: DiffBIRSettings | None = None,
        upscale: int = 1,
    ) -> None:
        check_arguments(DiffBIR.__init__, locals())
        if stage1 is not None:
            info = stage1.info
            if info.needs or info.views != 1 or info.scale != 1:
                raise ConfigError(
                    f"stage 1: the '{info.task}' model needs more than one photo, or changes its "
                    "size; use a model for blind restoration, for example one trained with "
                    "options/diffbir_stage1.yml"
                )
        check_upscale(upscale)
        self.sd, self.control, self.stage1 = sd, control, stage1
        self.settings, self.upscale = settings or DiffBIRSettings(), upscale

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
            sampler=self.settings.sampler,
            steps=self.settings.steps,
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

        The latent always has the size of the whole photo. For a large photo the network output is
        computed tile by tile and blended at each step. `tile` is in pixels of the result, and
        'auto' is the size of the training images of the Stable Diffusion.
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
            stage2 = partial(
                self._stage2,
                settings=settings,
                seeds=[seed] * len(lq) if isinstance(seed, int) else seed,
                tile=self.sd.side if tile == "auto" else tile,
                callback=callback,
            )
            result = retry_in_float32(
                lambda: on_canvas(self.sd, clean.to(self.sd.device), stage2),
                "DiffBIR",
                *self.sd.networks(),
                self.control,
            )
        result = torch.lerp(photo, result.to(photo), strength)
        return match_dtype(keep_flat_photos(result, photo), lq)

    def _settings(
        self, steps: int | None, sampler: str | None, conditions: Conditions
    ) -> DiffBIRSettings:
        """The settings with the options of one call."""
        options = {"steps": steps, "sampler": sampler, "prompt": conditions.prompt}
        settings = replace(self.settings, **{k: v for k, v in options.items() if v is not None})
        check_sampling(settings.sampler, settings.steps, self.sd.schedule.T)
        return settings

    def _stage2(
        self,
        clean: Tensor,
        *,
        settings: DiffBIRSettings,
        seeds: Sequence[int],
        tile: int | None,
        callback: Progress | None,
    ) -> Tensor:
        """Result of stage 2, (B, 3, H, W) in [0, 1] units, not clamped.

        Args:
            clean: result of stage 1, (B, 3, H, W), at a size that `on_canvas` gives.
            settings: settings of this call.
            seeds: one seed per photo.
            tile: side of the tiles in pixels; None for no tiles.
            callback: is called with the progress.
        """
        sd, schedule = self.sd, self.sd.schedule
        prompts = sd.embed([settings.negative_prompt, settings.prompt])
        condition = encode_photo(sd, clean, tile)
        weight = guidance_weight(clean, sd.factor, settings.fidelity)
        latent_tile = max(condition.shape) if tile is None else max(1, tile // sd.factor)

        def predict(zt: Tensor, t: int) -> Tensor:
            output = blend_tiles(
                lambda z, c: self._predict(z, c, t, prompts, settings),
                zt,
                condition,
                latent_tile,
                sd.align,
                is_square=True,
            )
            if settings.fidelity == 0:
                return output
            x0 = torch.lerp(schedule.x0(zt, output, t), condition, weight)
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

    def _predict(
        self, zt: Tensor, condition: Tensor, t: int, prompts: Tensor, settings: DiffBIRSettings
    ) -> Tensor:
        """Network output with classifier-free guidance: negative + cfg (positive - negative).

        Args:
            zt: state (B, 4, h, w).
            condition: latent of the result of stage 1, (B, 4, h, w).
            t: time.
            prompts: embeddings of the negative and the positive prompt, (2, tokens, D).
            settings: settings of this call.
        """
        predict = partial(predict_controlled, self.sd, self.control, t=t, strength=settings.control)
        negative, positive = (prompt.expand(len(zt), -1, -1) for prompt in prompts.split(1))
        if settings.cfg == 1:
            return predict(zt, condition, prompts=positive)
        both = predict(
            torch.cat([zt, zt]), torch.cat([condition] * 2), prompts=torch.cat([negative, positive])
        )
        negative_output, positive_output = both.chunk(2)
        return negative_output + settings.cfg * (positive_output - negative_output)


def guidance_weight(photo: Tensor, factor: int, fidelity: float) -> Tensor:
    """Weight k of restoration guidance: x0 becomes (1 - k) x0 + k c, with c the latent of stage 1.

    k = s (w + s (1 - w)), where s is `fidelity` and w = 1 - tanh(sum of the Sobel magnitude over
    2x2 pixels) is the weight of the paper: w is near 1 in flat regions and near 0 at edges. With a
    small s, guidance therefore acts mainly in flat regions. k increases with s from 0 to 1 in all
    regions.
    The published step, 3000 s grad ||x0 - c||^2, is the same interpolation, but its k can exceed 2,
    and then the sampling diverges.

    Args:
        photo: result of stage 1, (B, 3, H, W) float in [0, 1]; both sides are multiples of
            `factor`.
        factor: pixels per latent pixel and axis, an even number.
        fidelity: s, 0..1.

    Returns:
        k, (B, 1, H / factor, W / factor), in 0..1.
    """
    gray = F.pad(photo.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    sobel = photo.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).expand(1, 1, 3, 3)
    magnitude = torch.hypot(F.conv2d(gray, sobel), F.conv2d(gray, sobel.mT))
    flat = 1 - torch.tanh(4 * F.avg_pool2d(magnitude, 2))
    flat = F.avg_pool2d(flat, factor // 2)
    return fidelity * torch.lerp(flat, torch.ones_like(flat), fidelity)
