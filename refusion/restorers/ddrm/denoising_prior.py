"""A denoising model as a prior: an estimate of the noise of photos at any noise level.

A denoising model knows the noise levels of photos, in `DenoisingSDE` up to `lam`. The walk of DDRM
starts with far more noise, which hides all but the coarse structure of the scene. Means of f x f
pixels have 1/f of the noise. So at larger levels the model denoises a copy of the state that is
reduced by f, and the enlarged result is the estimate of x_0. This needs no training.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.config import ModelConfig
from refusion.nets.layers import pad_to_multiple
from refusion.sde import DenoisingSDE, build_sde
from refusion.sde.prediction import estimate

LARGEST = 16
"""Largest reduction f; above f times `lam` the model is told `lam`."""


def is_denoiser(config: ModelConfig) -> bool:
    """Whether a model is a denoising diffusion on pixels that sees the noisy photo only."""
    network, sde = config.network, config.sde
    return (
        sde is not None
        and sde.type == DenoisingSDE.__name__
        and network is not None
        and network.settings.get("conditional") is False
        and config.latent_unet is None
    )


def noise_from_denoiser(
    config: ModelConfig, network: nn.Module, dtype: torch.dtype, alpha_bar: Tensor
) -> Callable[[Tensor, int], Tensor]:
    """The function `predict_noise` of a `Prior`, see there.

    Args:
        config: of a denoising model, see `is_denoiser`: its process and the meaning of its output.
        network: its network, with weights of `dtype`.
        dtype: dtype of the weights.
        alpha_bar: abar_t at t = 0..T, float64 (T + 1,), of the states that the function gets.
    """
    stride = getattr(network, "factor", 1)
    sde = build_sde({"type": config.sde.type, **config.sde.settings})

    def denoise(photo: Tensor, noise_std: float) -> Tensor:
        t = sde.optimal_timestep(min(noise_std, sde.lam))
        state = pad_to_multiple(photo.to(dtype), stride, "reflect")
        output = network(state, state, t)[..., : photo.shape[-2], : photo.shape[-1]].to(photo)
        return estimate(sde, config.prediction, output, photo, photo, t).x0

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        signal, std = math.sqrt(alpha_bar[t]), math.sqrt(1 - alpha_bar[t])
        noisy, level = (xt / signal + 1) / 2, std / signal / 2  # of a photo in [0, 1]
        f = reduction(level, sde.lam, min(xt.shape[-2:]))
        x0 = denoise(noisy, level) if f == 1 else _at_scale(denoise, noisy, level, f)
        return (noisy - x0) / level

    return predict_noise


def reduction(level: float, largest: float, side: int) -> int:
    """Power of two up to `LARGEST` by which a photo is reduced, so that its noise is known.

    Args:
        level: standard deviation of the noise.
        largest: largest one that the model knows, in the same units.
        side: shorter side of the photo in pixels; 8 or more of its pixels remain.

    >>> reduction(0.3, 0.3, 512), reduction(0.4, 0.3, 512), reduction(9, 0.3, 512)
    (1, 2, 16)
    """
    f = 1
    while level / f > largest and 2 * f <= min(LARGEST, side // 8):
        f *= 2
    return f


def _at_scale(
    denoise: Callable[[Tensor, float], Tensor], noisy: Tensor, level: float, f: int
) -> Tensor:
    """The photo (B, 3, H, W) denoised on means of f x f pixels, enlarged to its size."""
    height, width = noisy.shape[-2:]
    means = F.avg_pool2d(pad_to_multiple(noisy, f, "reflect"), f)
    coarse = F.interpolate(denoise(means, level / f), scale_factor=f, mode="bicubic")
    return coarse[..., :height, :width]
