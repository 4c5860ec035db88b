"""DDRM as a restorer: a prior, a known degradation, and photos of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import ConfigError, RefusionError
from refusion.images.check import check_image
from refusion.images.samples import to_float
from refusion.operators import LinearOperator
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, match_dtype
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import Problem
from refusion.restorers.ddrm.sampling import DDRMSettings, sample_ddrm
from refusion.restorers.statistics import mean_and_std
from refusion.sde import NoiseSource, SeededNoise
from refusion.tiling.blending import blend_tiles


class DDRM:
    """Restores photos whose degradation is known; see `Restorer` for the contract.

    Photos larger than the prior's pictures are one state whose noise is estimated tile by tile and
    blended at each step, so the data and all tiles agree everywhere.

    Args:
        prior: from `load_prior`.
        problem: what happened to the photos, see `refusion.restorers.ddrm.problems`.
        sigma: standard deviation of the noise in the photos, in [0, 1] units; None if each call
            says it (`Conditions.noise_std`).
        settings: of the sampler; None takes the defaults, with the prior's steps.

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
        if sigma is not None and not 0 <= sigma < math.inf:
            raise ConfigError(f"sigma: expected a noise level from 0, got {sigma!r}")
        self.prior, self.problem, self.sigma = prior, problem, sigma
        self.settings = settings or DDRMSettings(steps=prior.steps)

    @property
    def info(self) -> RestorerInfo:
        """What this restorer is."""
        return RestorerInfo(
            family=type(self).__name__,
            task=self.problem.task,
            scale=self.problem.scale,
            views=1,
            needs=frozenset() if self.sigma is not None else frozenset({"noise_std"}),
            stochastic=True,
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

        Photos of another shape than the data of the operator are measured by it first: of a colour
        photo the gray one, of compressive sensing the sums. `noises` replaces what `seed` draws.
        """
        sigma = self._noise_level(conditions)
        settings = self.settings if steps is None else replace(self.settings, steps=steps)
        # Six standard deviations, all that ever comes, of noise that no file has cut.
        check_image("lq", lq, 3, 6 * sigma, integers=True)
        check_options(len(lq), seed, tile, strength)
        if sampler not in (None, "ddrm"):
            raise ConfigError(f"sampler: DDRM has its own, leave out {sampler!r}")
        photo = to_float(lq)
        with torch.no_grad():
            result = _enlarged(photo, self.problem.scale)
            if strength > 0:
                made = self._sample(
                    photo.to(self.prior.device),
                    sigma,
                    settings,
                    noises or SeededNoise(seed),
                    self.prior.side if tile == "auto" else tile,
                    None if callback is None else partial(callback, "sample"),
                )
                result = torch.lerp(result, made.to(result), strength)
        if not torch.isfinite(result).all():
            raise RefusionError(
                f"DDRM ({self.problem.task}) gave values that are not finite: the prior's weights "
                "are damaged"
            )
        return match_dtype(result, lq)

    def mean_and_deviation(
        self, lq: Tensor, samples: int, *, seed: int = 0, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Mean of several draws for one photo, and how much they differ.

        Args:
            lq: one photo (1, 3, H, W), float in [0, 1].
            samples: draws, 2 or more; they use the seeds from `seed` on.
            seed: of the first one.
            options: of `restore`.

        Returns:
            Mean (3, H', W') and standard deviation (1, H', W') over the draws, in [0, 1] units.

        Raises:
            ConfigError: fewer than two samples.
        """
        if samples < 2:
            raise ConfigError(f"samples: a deviation needs 2 or more, got {samples}")
        draws = (self.restore(lq, seed=seed + k, **options)[0] for k in range(samples))
        return mean_and_std(draws)

    def _noise_level(self, conditions: Conditions) -> float:
        sigma = self.sigma if self.sigma is not None else conditions.noise_std
        if sigma is None:
            raise ConfigError(
                "noise level: DDRM must know how noisy the photo is; give --noise-level (8-bit "
                "levels), or sigma"
            )
        return sigma

    def _sample(
        self,
        photo: Tensor,
        sigma: float,
        settings: DDRMSettings,
        noises: NoiseSource,
        tile: int | None,
        callback: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Restored photos in [0, 1] units, not clamped, on the prior's device."""
        height, width = (side * self.problem.scale for side in photo.shape[-2:])
        operator = self.problem.operator((3, height, width))
        is_measured = tuple(photo.shape[1:]) == operator.data_shape
        y = photo if is_measured else operator.forward(photo)
        return sample_photos(self.prior, operator, y, sigma, settings, noises, tile, callback)


def sample_photos(
    prior: Prior,
    operator: LinearOperator,
    y: Tensor,
    sigma: float,
    settings: DDRMSettings,
    noises: NoiseSource,
    tile: int | None,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw photos of any size that data explain; `sample_ddrm` in [0, 1] units, in tiles.

    Estimates are kept to pictures that can be: early on, an error of the noise is amplified a
    hundredfold, and what no data hold (colours) would not come back. Not so in `official` mode.

    Args:
        prior: what photos look like.
        operator: H.
        y: data (B, *operator.data_shape) of photos in [0, 1] units.
        sigma: standard deviation of the noise in y.
        settings: of the sampler.
        noises: see `sample_ddrm`.
        tile: side of the tiles in which the noise is estimated; None for the whole photo at once.
        callback: called after each step as `(done, steps)`.

    Returns:
        Photos (B, 3, H, W) in [0, 1] units, not clamped, on the prior's device.

    Raises:
        ConfigError: as `sample_ddrm`.
    """

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        noise = blend_tiles(
            lambda x, _: prior.predict_noise(x, t), xt, xt, tile or max(xt.shape), 1
        )
        return noise if settings.official else _possible(noise, xt, float(alpha_bar[t]))

    alpha_bar, y = prior.alpha_bar, y.to(prior.device)
    # The prior's images are 2 x - 1, and H is linear.
    centred = 2 * y - operator.forward(y.new_ones(1, *operator.image_shape))
    made = sample_ddrm(
        operator, centred, 2 * sigma, predict_noise, alpha_bar, noises, settings, callback
    )
    return (made + 1) / 2


def _possible(noise: Tensor, xt: Tensor, alpha_bar: float) -> Tensor:
    """The noise, changed where what it leaves of the state is out of the range of pictures."""
    signal, spread = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    x0 = (xt - spread * noise) / signal
    return noise + signal / spread * (x0 - x0.clamp(-1, 1))


def _enlarged(photo: Tensor, scale: int) -> Tensor:
    if scale == 1:
        return photo.clone()
    return F.interpolate(photo, scale_factor=scale, mode="bicubic").clamp_(0, 1)
