"""The restorer DDRM: it removes a known degradation with a diffusion prior, at any photo size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError, RefusionError
from refusion.images.check import check_image
from refusion.images.samples import to_float
from refusion.operators import LinearOperator
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import (
    check_options,
    keep_flat_photos,
    match_dtype,
    noise_levels,
)
from refusion.restorers.ddrm.borders import continue_data
from refusion.restorers.ddrm.mean import estimate_mean
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import Problem
from refusion.restorers.ddrm.sampling import DDRMSettings, sample_ddrm
from refusion.restorers.statistics import mean_and_std
from refusion.sde import NoiseSource, SeededNoise
from refusion.tiling.blending import blend_tiles


class DDRM:
    """Restores photos whose degradation is known; see `Restorer` for the contract.

    The state always has the size of the whole result. If it is larger than the tiles of the prior,
    the network estimates the noise tile by tile, and the estimates are blended at each step. A
    prior with attention over the whole map has tiles of the size of its training images; the tiles
    of a convolutional prior are as large as the memory permits. The data are used for the whole
    image at once, so there are no seams.

    Args:
        prior: the prior, see `load_prior`.
        problem: the degradation, see `refusion.restorers.ddrm.problems`.
        sigma: standard deviation of the noise in the photos, in [0, 1] units; None if each call
            passes `Conditions.noise_std`.
        settings: settings of the sampler; None for the defaults with the prior's number of steps.

    Raises:
        ConfigError: sigma is negative or not finite.
    """

    def __init__(
        self,
        prior: Prior,
        problem: Problem,
        sigma: float | None = None,
        settings: DDRMSettings | None = None,
    ) -> None:
        check_arguments(DDRM.__init__, locals())
        if sigma is not None and not 0 <= sigma < math.inf:
            raise ConfigError(f"sigma: expected a noise level from 0, got {sigma!r}")
        self.prior, self.problem, self.sigma = prior, problem, sigma
        self.settings = settings or DDRMSettings(steps=prior.steps)

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        return RestorerInfo(
            family=type(self).__name__,
            task=self.problem.task,
            scale=self.problem.scale,
            views=1,
            needs=frozenset() if self.sigma is not None else frozenset({"noise_std"}),
            stochastic=self.settings.estimate == "sample",
            sampler="ddrm",
            steps=self.settings.steps,
            factor=1,
            tiling="blended",
            device=str(self.prior.device),
            precision=self.prior.precision,
            colours=self.problem.colours,
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
        noises: NoiseSource | None = None,
    ) -> Tensor:
        """Restore a batch of photos; see `Restorer.restore`.

        If the shape of the photos is not the data shape of the operator, the operator is first
        applied to the photos. For example, a colour photo becomes gray for colorization.

        Args:
            lq: see `Restorer.restore`. A float photo may exceed [0, 1] by 6 sigma, because noise
                that was added to it need not be clamped.
            steps: network evaluations; None for the number in the settings.
            sampler: 'ddrm' or None.
            seed: see `Restorer.restore`.
            tile: side of the tiles in pixels of the result; 'auto' for the tiles of the prior,
                None for no tiles.
            conditions: `noise_std` is needed if the restorer has no `sigma`.
            strength: see `Restorer.restore`.
            callback: is called with the progress.
            noises: replaces the noise of `seed`; None for the noise of `seed`.

        Returns:
            See `Restorer.restore`.

        Raises:
            ImageError: see `Restorer.restore`.
            ConfigError: an option is out of range, or the noise level is missing.
            RefusionError: the network gave no finite result.
        """
        sigma = self._noise_level(conditions)
        settings = self.settings if steps is None else replace(self.settings, steps=steps)
        if settings.floor is None:
            settings = replace(settings, floor=self.problem.floor)
        # Noise that was not clamped does not exceed six standard deviations in practice.
        check_image("lq", lq, 3, 6 * sigma, integers=True)
        check_options(len(lq), seed, tile, strength)
        if sampler not in (None, "ddrm"):
            raise ConfigError(
                f"sampler: DDRM has only the sampler 'ddrm', got {sampler!r}; leave it out"
            )
        photo = to_float(lq)
        with torch.no_grad():
            result = enlarged = _enlarged(photo, self.problem.scale)
            if strength > 0:
                restored = self._sample(
                    photo.to(self.prior.device),
                    sigma,
                    settings,
                    noises or SeededNoise(seed),
                    tile,
                    None if callback is None else partial(callback, "sample"),
                )
                result = torch.lerp(result, restored.to(result), strength)
        if not torch.isfinite(result).all():
            raise RefusionError(
                f"DDRM ({self.problem.task}) gave values that are not finite: the prior's weights "
                "are damaged; use another prior"
            )
        return match_dtype(keep_flat_photos(result, enlarged), lq)

    def mean_and_deviation(
        self, lq: Tensor, samples: int, *, seed: int = 0, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over several restored samples of one photo.

        Args:
            lq: one photo (1, 3, H, W), float in [0, 1].
            samples: number of samples, 2 or more.
            seed: seed of the first sample; sample k has `seed + k`.
            options: other options of `restore`.

        Returns:
            Mean (3, H', W') and standard deviation (1, H', W') over the samples, in [0, 1] units;
            H' and W' are the sides of the result.

        Raises:
            ConfigError: fewer than two samples.
        """
        if samples < 2:
            raise ConfigError(f"samples: expected 2 or more for a deviation, got {samples}")
        restored = (self.restore(lq, seed=seed + k, **options)[0] for k in range(samples))
        return mean_and_std(restored)

    def _noise_level(self, conditions: Conditions) -> float:
        sigma = self.sigma if self.sigma is not None else conditions.noise_std
        if sigma is None:
            raise ConfigError(
                "noise level: DDRM needs the noise level of the photo; give --noise-level (8-bit "
                "levels), or in Python `sigma` or `Conditions.noise_std`"
            )
        return noise_levels(sigma)[0]

    def _sample(
        self,
        photo: Tensor,
        sigma: float,
        settings: DDRMSettings,
        noises: NoiseSource,
        tile: int | Literal["auto"] | None,
        callback: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Restored photos (B, 3, H, W) in [0, 1] units, not clamped, on the prior's device."""
        height, width = (side * self.problem.scale for side in photo.shape[-2:])
        rows, columns = self.problem.margin
        operator = self.problem.operator((3, height + 2 * rows, width + 2 * columns))
        if any(self.problem.margin):
            y = continue_data(photo, operator, self.problem.margin)
        else:
            is_data = tuple(photo.shape[1:]) == operator.data_shape
            y = photo if is_data else operator.forward(photo)
        result = sample_photos(self.prior, operator, y, sigma, settings, noises, tile, callback)
        return result[..., rows : rows + height, columns : columns + width]


def sample_photos(
    prior: Prior,
    operator: LinearOperator,
    y: Tensor,
    sigma: float,
    settings: DDRMSettings,
    noises: NoiseSource,
    tile: int | Literal["auto"] | None = "auto",
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Restore photos of any size from data in [0, 1] units; see `sample_ddrm`, `estimate_mean`.

    Every estimate of x_0 is clamped to [-1, 1], the range of the prior's images. At the first times
    an error of the noise estimate is multiplied by about 100 in the estimate of x_0. Where H gives
    no information, such as in the colours of a gray photo, no data correct such an error. The mode
    `official` does not clamp.

    Args:
        prior: the prior.
        operator: H.
        y: data (B, *operator.data_shape) of photos in [0, 1] units.
        sigma: standard deviation of the noise in y, in [0, 1] units.
        settings: settings of the sampler.
        noises: see `sample_ddrm`.
        tile: side of the tiles in which the noise is estimated, in pixels; 'auto' for the tiles of
            the prior, None for no tiles.
        callback: is called after each step as `(done, steps)`.

    Returns:
        Photos (B, 3, H, W) in [0, 1] units, not clamped, on the prior's device.

    Raises:
        ConfigError: see `sample_ddrm`.
    """

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        side = max(xt.shape) if tile is None else max(tile, prior.factor)
        run, factor = lambda x, _: prior.predict_noise(x, t), prior.factor
        is_square = prior.side is not None  # attention needs the size of the training
        noise = blend_tiles(run, xt, xt, side, factor, is_square=is_square)
        return noise if settings.official else _clamp_estimate(noise, xt, float(alpha_bar[t]))

    alpha_bar, y = prior.alpha_bar, y.to(prior.device)
    if tile == "auto":
        tile = prior.tile_for(y.new_empty(len(y), *operator.image_shape))
    # The prior's images are 2 x - 1 for photos x in [0, 1]. H is linear: H (2 x - 1) = 2 y - H 1.
    data = 2 * y - operator.forward(y.new_ones(1, *operator.image_shape))
    known = (operator, data, 2 * sigma, predict_noise, alpha_bar)
    if settings.estimate == "mean":
        x0 = estimate_mean(*known, settings, callback)
    else:
        x0 = sample_ddrm(*known, noises, settings, callback)
    return (x0 + 1) / 2


def _clamp_estimate(noise: Tensor, xt: Tensor, alpha_bar: float) -> Tensor:
    """Noise whose estimate of x_0 is that of `noise`, clamped to [-1, 1]."""
    signal, std = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    x0 = (xt - std * noise) / signal
    return noise + signal / std * (x0 - x0.clamp(-1, 1))


def _enlarged(photo: Tensor, scale: int) -> Tensor:
    """A copy of the photo, enlarged by bicubic interpolation, in [0, 1]."""
    if scale == 1:
        return photo.clone()
    return F.interpolate(photo, scale_factor=scale, mode="bicubic").clamp_(0, 1)
