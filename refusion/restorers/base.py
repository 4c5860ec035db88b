"""The contract of all restorers: what they are given, what they return, what they report.

Batch jobs, evaluation and commands use restorers only through this contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Called as `(stage, done, total)`: stage 'encode' or 'decode' counts tiles, 'sample' steps."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of a restoration beside the photo itself; a model needs those it was trained with.

    Attributes:
        lens: source lens, target lens and disparity, float (3,) or one row per photo (B, 3);
            lenses as numbers, see `refusion.optics.lens`.
        noise_std: standard deviation of the photo's noise, in [0, 1] units.
        guide: conditions of every pixel, (G, H, W) or one map per photo (B, G, H, W), float in
            [0, 1], or uint8 or uint16 over their full range; see `refusion.optics.defocus`.
        prompt: description of the photo, for restorers that take text; None for their default.
    """

    lens: Tensor | None = None
    noise_std: float | None = None
    guide: Tensor | None = None
    prompt: str | None = None

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Conditions:
        """The conditions in an item of a dataset, or in a batch."""
        noise_std = item.get("noise_std")
        noise_std = None if noise_std is None else float(noise_std)
        return cls(item.get("lens"), noise_std, item.get("guide"))


NO_CONDITIONS = Conditions()


@dataclass(frozen=True)
class RestorerInfo:
    """What a restorer is, and its defaults.

    Attributes:
        family: key of `RESTORERS`.
        task: what it was trained for, such as 'dehaze'.
        scale: output pixels per input pixel and axis.
        views: photos of a scene restored together: 2 for a stereo pair, else 1.
        needs: fields of `Conditions` that it requires for every photo; it uses no others.
        stochastic: whether the result depends on the seed, with the default sampler.
        sampler: default sampler; None where there is no diffusion.
        steps: default number of network evaluations; 0 where there is no diffusion.
        factor: input pixels per pixel of the space the process runs in, per axis.
        tiling: 'exact' if tiles leave the result unchanged but for rounding, 'blended' if they
            are an approximation.
        device: the device of its networks, such as 'cpu'.
        precision: number format of its networks: 'fp32', 'bf16' or 'fp16'.
        colours: whether it adds colours to a gray photo; the result then is an RGB photo.
    """

    family: str
    task: str
    scale: int
    views: int
    needs: frozenset[str]
    stochastic: bool
    sampler: str | None
    steps: int
    factor: int
    tiling: Literal["exact", "blended"]
    device: str
    precision: str
    colours: bool = False


class Restorer(Protocol):
    """Restores photos."""

    @property
    def info(self) -> RestorerInfo:
        """What this restorer is."""

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
        """Restore a batch of photos; a function of (lq, weights, options) alone.

        Args:
            lq: degraded photos (B, 3 * views, H, W), any size from 1x1: float in [0, 1], or uint8
                or uint16 over their full range, which large photos need less memory for.
            steps: network evaluations; None for the default.
            sampler: key of `refusion.sde.SAMPLERS`; None for the default.
            seed: of the noise; one int gives every photo the noise it would get alone, a sequence
                has one seed per photo.
            tile: side of the tiles in pixels; 'auto' chooses it by memory, None uses no tiles.
            conditions: what the model needs beside the photos, see `RestorerInfo.needs`.
            strength: share of the way from the photo (0) to its restoration (1), in the space the
                process runs in. 0 gives the photo itself, enlarged where `scale` is above 1.
            callback: is called with the progress.

        Returns:
            Restored photos (B, 3 * views, scale * H, scale * W), on the device of `lq`: float32 in
            [0, 1], or, of integers, the same integers, rounded to nearest.

        Raises:
            ImageError: `lq` has another shape, dtype or range.
            ConfigError: unknown sampler, or one that does not suit this model; steps,
                tile or strength out of range; or `conditions` lacks a needed field, or
                holds a value outside the model's range.
            RefusionError: the network gave no finite result.
        """
