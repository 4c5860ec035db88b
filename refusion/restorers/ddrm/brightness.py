"""The brightness of large areas, which the data know better than a denoised state.

A step of the mean weighs data and denoised state as if the errors of the state were independent in
each pixel. But a network can make a whole area darker, and then each pixel alone says little
against it, while all data of the area together know its brightness well. So the areas get a common
correction each: first large ones, then smaller ones.

Let d = V w (1/s U^T y - V^T x_0) be the correction of the pixels, w = `SpectralData.weight`, and
q = V w V^T 1 its answer to an error of 1. An area of n pixels whose error is c has sum(d) = c
sum(q), with noise of variance n q (1 - q) s_t^2. If c has the standard deviation SHARE s_t, then

    E(c) = SHARE^2 n q / (SHARE^2 n q + 1 - q) mean(d) / q,  q the mean of q over the area.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.operators import LinearOperator
from refusion.restorers.ddrm.sampling import SpectralData

AREAS = (256, 128, 64, 32, 16)  # sides in pixels
SHARE = 0.1  # standard deviation of the brightness error of an area, in units of s_t


def brightness_error(
    operator: LinearOperator, data: SpectralData, denoised: Tensor, level: float
) -> Tensor:
    """Estimate from the data what a denoised state lacks in the brightness of its areas.

    Args:
        operator: H.
        data: the data.
        denoised: denoised state x_0, (B, C, H, W).
        level: standard deviation s_t of the noise that was removed from it, above 0.

    Returns:
        (B, C, H, W), smooth, to be added; 0 where nothing is known.
    """
    weight = data.weight(level)
    x0 = operator.to_spectrum(denoised)
    missing = operator.from_spectrum(weight * (data.uty * data.inverse - x0))
    one = torch.ones_like(denoised[:1])
    answer = operator.from_spectrum(weight * operator.to_spectrum(one))
    error = torch.zeros_like(denoised)
    for side in AREAS:
        if side <= min(denoised.shape[-2:]):
            error = error + _area_errors(missing - answer * error, answer, side)
    return error


def _area_errors(missing: Tensor, answer: Tensor, side: int) -> Tensor:
    """E(c) of the areas of side x side pixels, interpolated between their centres."""
    height, width = missing.shape[-2:]
    short = (0, -width % side, 0, -height % side)  # filled with pixels that know nothing
    d, q = (F.avg_pool2d(F.pad(each, short), side) for each in (missing, answer))
    q = q.clamp(0, 1)
    known = SHARE**2 * side**2
    errors = known * d / (known * q + 1 - q)
    return F.interpolate(errors, scale_factor=side, mode="bilinear")[..., :height, :width]
