"""The mean of the posterior for a known linear degradation, with a diffusion prior as denoiser.

A sample of the posterior is a plausible photo, but the mean is closer to the truth: the mean square
of its error is half as large. Half-quadratic splitting (DPIR: Zhang et al., TPAMI 2021) finds it by
turns. The prior removes noise from the state, whose level falls from step to step, and the data
correct the result:

    x_0 = the denoised state at the noise level s_t
    x   = argmin |y - H x|^2 / sigma_y^2 + |x - x_0|^2 / s_t^2

In the coordinates of the SVD of H the second line is a weighted mean. Photos that are mirrored,
transposed, negative or have their colours exchanged are photos, too, but a network treats them
differently. Each step shows the state to the network in another of these ways, so that its errors,
such as a little more light at each call, do not add up (equivariant plug-and-play: Terris et al.,
CVPR 2024). DiffPIR (Zhu et al., CVPRW 2023) adds noise to x. Here it is not added, because it would
give samples.

The last x of noisy data has their noise, so the result is the last denoised state. Only the
brightness of its areas is corrected with the data (`brightness_error`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.operators import Inpainting, LinearOperator
from refusion.restorers.ddrm.brightness import brightness_error
from refusion.restorers.ddrm.filling import fill_unknown
from refusion.restorers.ddrm.sampling import DDRMSettings, PredictNoise, SpectralData

STEPS = 12  # default number of network evaluations
SPREAD = 0.5  # standard deviation of photos around mid gray, in [-1, 1] units, for the start
FIRST = 3.0  # largest noise level, in [-1, 1] units; above it the prior sees no scene
FIRST_FILLED = 0.6  # the same for photos whose unknown pixels are filled; with more noise in the
ABOVE_NOISE = 6.0  # data this many sigma_y, because few steps near sigma_y remove little noise
LAST = 0.7  # smallest noise level, in units of sigma_y
MOMENTUM = 0.4  # share of the last change that is added, so that fewer steps are enough


def estimate_mean(
    operator: LinearOperator,
    y: Tensor,
    sigma_y: float,
    predict_noise: PredictNoise,
    alpha_bar: Tensor,
    settings: DDRMSettings,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Estimate the mean of the posterior of y = H x + sigma_y noise; it uses no random numbers.

    Args:
        operator: H.
        y: data (B, *operator.data_shape), in the units of the prior's images, [-1, 1].
        sigma_y: standard deviation of the noise in y, in the same units, 0 or more.
        predict_noise: noise estimate of the prior.
        alpha_bar: abar_t of the prior's process at t = 0..T, float64 (T + 1,); 1 at t = 0.
        settings: `steps` and `floor` are used.
        callback: is called after each step as `(done, steps)`.

    Returns:
        Images (B, C, H, W) in [-1, 1] units, not clamped, with the dtype and device of y. If the
        data have no noise, the images agree with them.

    Raises:
        ConfigError: more steps than the process has, a wrong `sigma_y`, or a floor that is not
            below the largest singular value.
    """
    data = SpectralData.from_measurement(operator, y, sigma_y, settings)
    state, first = start_state(operator, data)
    before = state
    times = noise_level_times(alpha_bar, settings.steps, LAST * sigma_y, first)
    for done, t in enumerate(times, start=1):
        signal = math.sqrt(float(alpha_bar[t]))
        level = math.sqrt(1 - float(alpha_bar[t])) / signal
        current = operator.from_spectrum(state)
        noise = equivariant_noise(predict_noise, signal * current, t, done)
        denoised = current - level * noise.to(current)
        x0 = operator.to_spectrum(denoised)
        corrected = x0 + data.weight(level) * (data.uty * data.inverse - x0)
        if done == 1:
            before = corrected
        state, before = corrected + MOMENTUM * (corrected - before), corrected
        if callback is not None:
            callback(done, len(times))
    if sigma_y > 0:
        return denoised + brightness_error(operator, data, denoised, level)
    return operator.from_spectrum(before)


def start_state(operator: LinearOperator, data: SpectralData) -> tuple[Tensor, float]:
    """Spectrum of the first state (B, ...), and the first noise level, in [-1, 1] units.

    A photo with unknown pixels starts filled, and so with less noise: a call with more noise would
    see only coarse structure and leave traces of scratches, which later calls take for structure.
    """
    if isinstance(operator, Inpainting):
        first = min(FIRST, max(FIRST_FILLED, ABOVE_NOISE * data.sigma_y))
        return fill_unknown(data.uty, data.s), first
    # The linear estimate: without the weight, small singular values make a start of noise only.
    return data.weight(SPREAD) * data.uty * data.inverse, FIRST


def equivariant_noise(predict_noise: PredictNoise, xt: Tensor, t: int, number: int) -> Tensor:
    """Noise estimate for the state seen in another way: mirrored, as negative, other colours.

    Args:
        predict_noise: noise estimate of the prior.
        xt: state at time t, (B, C, H, W).
        t: time.
        number: chooses one of the 8 symmetries of the square and of the C cyclic orders of the
            channels; odd numbers show the negative.

    Returns:
        (B, C, H, W), in the orientation and order of the channels of `xt`.
    """
    mirrored = [axis for axis, bit in ((-1, 1), (-2, 2)) if number & bit]
    sign = -1 if number & 1 else 1
    seen = sign * xt.roll(number, dims=1).flip(mirrored)
    noise = predict_noise(seen.mT if number & 4 else seen, t)
    return sign * (noise.mT if number & 4 else noise).flip(mirrored).roll(-number, dims=1)


def noise_level_times(
    alpha_bar: Tensor, steps: int, last: float, first: float = FIRST
) -> list[int]:
    """Times of the process whose noise levels fall from `first` to `last` by equal factors.

    Args:
        alpha_bar: abar_t at t = 0..T, float64 (T + 1,).
        steps: number of times, 1..T; there are fewer if two of them are the same whole number.
        last: smallest noise level, in [-1, 1] units; that of t = 1 if it is above it.
        first: largest noise level; `last` if it is above it.

    Returns:
        Whole times in 1..T, in descending order.

    Raises:
        ConfigError: `steps` is out of range.

    >>> from refusion.sde import VPSDE
    >>> noise_level_times(VPSDE().alpha_bar, 5, 0.07)
    [476, 290, 134, 52, 18]
    """
    T = len(alpha_bar) - 1
    if not 1 <= steps <= T:
        raise ConfigError(f"steps: expected 1..{T}, the steps of the prior, got {steps}")
    levels = ((1 - alpha_bar[1:]) / alpha_bar[1:]).sqrt().log()
    low = max(float(levels[0]), math.log(last) if last > 0 else -math.inf)
    high = max(low, min(float(levels[-1]), math.log(first)))
    wanted = (
        torch.linspace(high, low, steps, dtype=levels.dtype)
        if steps > 1
        else levels.new_tensor([low])
    )
    nearest = (levels[None] - wanted[:, None]).abs().argmin(dim=1) + 1
    return sorted(set(nearest.tolist()), reverse=True)
