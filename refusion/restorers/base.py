"""The interface of all restorers: their arguments, their results and their descriptions.

Batch jobs, evaluation and commands use restorers only through this contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from torch import Tensor

from refusion.errors import ConfigError, short
from refusion.haze_options import ALL_HAZE, HazeOptions
from refusion.restorers.numbers import as_noise_std, as_numbers

Progress = Callable[[str, int, int], None]
"""Called as `(stage, done, total)`: stage 'encode' or 'decode' counts tiles, 'sample' steps."""

STRENGTHS, HAZE_STRENGTHS = (0.0, 1.0), (-2.0, 2.0)
"""Smallest and largest strength: of most models, and of models that predict haze."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of a restoration in addition to the photo; see `RestorerInfo.needs`.

    Numbers can be given as arrays or lists, too; they become tensors. The call of a restorer with
    an image refuses a field that its model does not use. `Restorer.restore` ignores it, because an
    item of a dataset can have more than a model uses.

    Attributes:
        lens: source lens, target lens and disparity, float (3,) or one row per photo (B, 3);
            lenses as numbers, see `refusion.optics.lens`.
        noise_std: standard deviation of the photo's noise, in [0, 1] units. A model with
            `noise_std` in `RestorerInfo.optional` takes one per photo, too, (B,), and estimates it
            from the photo if it is None.
        guide: conditions for every pixel, (G, H, W), or one map per photo (B, G, H, W); float in
            [0, 1], or uint8 or uint16 over their full range; see `refusion.optics.defocus`.
        prompt: description of the photo, for restorers with a text input; None for their default.
        haze: how haze is removed, for models with the prediction `scattering`.
        estimated_noise: result of `refusion.images.noise_level.estimate_noise_std` for the photos,
            (B,), if the caller has it; it is used where `noise_std` is None. None otherwise.

    Raises:
        ConfigError: a value has another type.
    """

    lens: Tensor | None = None
    noise_std: float | Tensor | None = None
    guide: Tensor | None = None
    prompt: str | None = None
    haze: HazeOptions = ALL_HAZE
    estimated_noise: Tensor | None = None

    def __post_init__(self) -> None:
        for field, convert in _NUMBERS.items():
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, convert(value))
        if not isinstance(self.prompt, str | None):
            raise ConfigError(f"prompt: expected a text or None, got {short(self.prompt)}")
        if not isinstance(self.haze, HazeOptions):
            raise ConfigError(f"haze: expected HazeOptions, got {short(self.haze)}")

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Conditions:
        """The conditions in an item of a dataset, or in a batch.

        Args:
            item: values by name; the names are those of the attributes.
        """
        level = item.get("noise_std")
        if isinstance(level, Tensor) and level.numel() == 1:
            level = level.item()
        return cls(item.get("lens"), level, item.get("guide"))


_NUMBERS = {
    "lens": partial(as_numbers, "lens"),
    "noise_std": partial(as_noise_std, "noise level"),
    "guide": partial(as_numbers, "guide"),
    "estimated_noise": partial(as_noise_std, "estimated noise level"),
}
NO_CONDITIONS = Conditions()


@dataclass(frozen=True)
class RestorerInfo:
    """Description and defaults of a restorer.

    Attributes:
        family: name of its class, a key of `RESTORERS`.
        task: task that it was trained for, such as 'dehaze'.
        scale: output pixels per input pixel and axis.
        views: number of photos of a scene that are restored together: 2 for a stereo pair, else 1.
        needs: fields of `Conditions` that it requires for every photo. It uses no other field,
            except those of `optional`, and `haze` if `predicts_haze`.
        stochastic: whether the result depends on the seed, with the default sampler.
        sampler: default sampler; None for a method without samplers.
        steps: default number of network evaluations; 0 without a diffusion process.
        factor: input pixels per pixel of the space that the process runs in, per axis.
        tiling: 'exact' if tiles do not change the result except for rounding, 'blended' if they
            change it slightly.
        device: device of its networks, such as 'cpu'.
        precision: number format of its networks: 'fp32', 'bf16' or 'fp16'.
        colours: whether it adds colours to a gray photo; the result is then an RGB photo.
        predicts_haze: whether it predicts the haze of a photo and not an image (prediction
            `scattering`). Only these models use `Conditions.haze` and have `decompose`.
        optional: fields of `Conditions` that it uses, but does not require: `noise_std` in
            denoising models, which estimate it from the photo if it is None; `prompt` in
            restorers with a text input, which have a default.
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
    predicts_haze: bool = False
    optional: frozenset[str] = frozenset()

    @property
    def strengths(self) -> tuple[float, float]:
        """Smallest and largest strength; see `Restorer.restore`."""
        return HAZE_STRENGTHS if self.predicts_haze else STRENGTHS


class Restorer(Protocol):
    """Restores photos."""

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""

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
        """Restore a batch of photos; the result depends on (lq, weights, options) only.

        A photo of one colour stays as it is, see `refusion.restorers.contract.structure`.

        Args:
            lq: degraded photos (B, 3 * views, H, W), any size from 1x1: float in [0, 1], or uint8
                or uint16 over their full range. Integers need less memory for large photos.
            steps: network evaluations; None for the default.
            sampler: key of `refusion.sde.SAMPLERS`; None for the default.
            seed: seed of the noise. One int: every photo gets the noise that it gets in a batch of
                its own. A sequence: one seed per photo.
            tile: side of the tiles in pixels; 'auto' chooses it by memory, None uses no tiles.
            conditions: conditions of the photos, see `RestorerInfo.needs`.
            strength: weight of the restoration, from 0 (the photo itself, enlarged if `scale` is
                above 1) to 1 (the restored photo); it interpolates in the space of the process.
                A model that predicts haze takes -2 to 2: the transmission t becomes t^strength, so
                values above 1 remove more haze than the model finds, and negative ones add haze.
            callback: is called with the progress.

        Returns:
            Restored photos (B, 3 * views, scale * H, scale * W), on the device of `lq`: float32 in
            [0, 1] for float photos, otherwise the dtype of `lq`, rounded to nearest.

        Raises:
            ImageError: `lq` has another shape, dtype or range.
            ConfigError: the sampler is unknown or does not suit this model; steps, tile or strength
                is out of range; or `conditions` lacks a needed field, or contains a value
                outside the model's range.
            RefusionError: the network gave no finite result.
        """
