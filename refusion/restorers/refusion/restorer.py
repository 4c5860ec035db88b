"""Refusion: restoration with a mean-reverting diffusion, on pixels or in a latent.

`Refusion.restore` checks the options, `restore_latent` or `restore_pixels` prepares the map, and
`reverse_process.sample` runs the diffusion on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.checkpoint import Model
from refusion.devices.precision import choose_device, choose_precision
from refusion.errors import ConfigError, RefusionError
from refusion.images.check import check_image
from refusion.images.resize import enlarge
from refusion.images.samples import is_integer, to_float
from refusion.restorers.base import (
    NO_CONDITIONS,
    Conditions,
    HazeOptions,
    Progress,
    RestorerInfo,
)
from refusion.restorers.contract import check_options, keep_flat_photos, match_dtype
from refusion.restorers.refusion.conditions import batch_guide, batch_lens, required_conditions
from refusion.restorers.refusion.decomposition import Decomposition, decompose
from refusion.restorers.refusion.latent import restore_latent
from refusion.restorers.refusion.model import LoadedModel
from refusion.restorers.refusion.noise_level import restore_with_own_levels
from refusion.restorers.refusion.pixels import restore_pixels
from refusion.restorers.refusion.reverse_process import Request
from refusion.restorers.refusion.sampling_plan import SamplingPlan, is_stochastic, plan_sampling
from refusion.sde import DenoisingSDE, SeededNoise
from refusion.tiling.exact import latent_guide
from refusion.tiling.memory import on_device

T = TypeVar("T")
_SCATTERING = "scattering"
logger = logging.getLogger(__name__)


class Refusion:
    """Restores photos with the model of a checkpoint; see `Restorer` for the contract.

    If the model has a latent U-Net and no diffusion network, the result is the reconstruction of
    the photo by the U-Net. It is an upper bound for the quality with a diffusion network.

    Args:
        model: networks and config; the networks are copied, so later changes to them have no
            effect here.
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.
        memory: maximum number of bytes of the whole process, in the memory of the device; the
            automatic tile size observes it. None for no limit; tiles then have a useful size.

    Raises:
        ConfigError: device or precision unknown or not available.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        memory: int | None = None,
    ) -> None:
        check_arguments(Refusion.__init__, locals())
        where = choose_device(device)
        self._source = model
        self._model = LoadedModel.load(model, where, choose_precision(precision, where), memory)

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        model, config = self._model, self._model.config
        blended = model.latent_unet is None and model.process_side is None
        return RestorerInfo(
            family=type(self).__name__,
            task=config.task,
            scale=config.upscale.factor if config.upscale else 1,
            views=2 if model.network_setting("stereo") else 1,
            needs=required_conditions(config),
            stochastic=model.sees_state and is_stochastic(model.sde, config.sampling),
            sampler=config.sampling.sampler if config.sampling else None,
            steps=config.sampling.steps if config.sampling else 0,
            factor=1 if model.latent_unet is None else model.latent_unet.factor,
            tiling="blended" if blended else "exact",
            device=str(model.device),
            precision=model.precision,
            predicts_haze=config.prediction == _SCATTERING,
            optional=frozenset(["noise_std"] if isinstance(model.sde, DenoisingSDE) else []),
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

        A denoising model without a noise level estimates that of each photo. A photo whose noise no
        one sees stays unchanged.

        A result that is not finite in a narrow number format is computed again in float32, with a
        logged warning.
        """
        model, info = self._model, self.info
        # A noisy photo may exceed [0, 1]: by six standard deviations of the largest noise.
        margin = 6 * model.sde.lam if isinstance(model.sde, DenoisingSDE) else 0.0
        check_image("lq", lq, 3 * info.views, margin, integers=True)
        check_options(len(lq), seed, tile, strength, info.strengths)
        if "noise_std" in info.optional and not isinstance(conditions.noise_std, int | float):
            how = {"sampler": sampler, "tile": tile, "strength": strength, "callback": callback}
            how |= {"seed": seed, "steps": steps}
            return restore_with_own_levels(self.restore, model.sde, lq, conditions, **how)
        plan = self._plan(seed, steps, sampler, conditions)
        guide = batch_guide(conditions, model.config.guide, lq, model.config.task)
        inputs = self._network_inputs(conditions, guide, len(lq))
        request = Request(plan, tile, inputs, guide, strength, conditions.haze, callback)
        with torch.no_grad():
            placed = on_device(lq, model.device, model.memory)
            photos = self._prepared(placed)
            if strength == 0:  # the photo itself, without the U-Net's reconstruction
                return match_dtype(photos.clone(), placed).to(lq.device)
            result = self._finite(lambda model: _restored(model, request, photos))
            if not info.predicts_haze:  # otherwise a flat photo has no haze
                keep_flat_photos(result, photos)
            return match_dtype(result, placed).to(lq.device)

    def decompose(
        self,
        lq: Tensor,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        tile: int | Literal["auto"] | None = "auto",
        callback: Progress | None = None,
        draw: bool = False,
    ) -> Decomposition:
        """Find the haze of a batch of photos; `Decomposition.clear` then gives what `restore` does.

        The arguments are those of `Restorer.restore`, and `draw` is that of `HazeOptions`.

        Raises:
            ConfigError: the model has another prediction than `scattering`, or an option is wrong.
            ImageError: `lq` has another shape, dtype or range.
            RefusionError: the network gave no finite result.
        """
        model, prediction = self._model, self._model.config.prediction
        if prediction != _SCATTERING:
            raise ConfigError(
                f"decompose: needs a model with the prediction '{_SCATTERING}', which predicts the "
                f"haze; the '{model.config.task}' model has {prediction!r}"
            )
        check_image("lq", lq, integers=True)
        check_options(len(lq), seed, tile, 1.0)
        plan = self._plan(seed, steps, sampler, NO_CONDITIONS)
        request = Request(plan, tile, {}, None, 1.0, HazeOptions(draw=draw), callback)
        with torch.no_grad():
            photos = self._prepared(on_device(lq, model.device, model.memory))
            return self._finite(lambda model: decompose(model, request, photos)).to(lq.device)

    def _plan(
        self,
        seed: int | Sequence[int],
        steps: int | None,
        sampler: str | None,
        conditions: Conditions,
    ) -> SamplingPlan | None:
        """The checked sampling plan; None for a latent U-Net alone."""
        config, sde = self._model.config, self._model.sde
        if sde is not None:
            noise = SeededNoise(seed)
            return plan_sampling(config, sde, conditions, noise, steps=steps, sampler=sampler)
        if (steps, sampler) != (None, None):
            raise ConfigError(
                f"steps, sampler: the '{config.task}' model is a latent U-Net alone, without a "
                "diffusion process; leave them out"
            )
        return None

    def _network_inputs(
        self, conditions: Conditions, guide: Tensor | None, batch: int
    ) -> dict[str, Tensor]:
        """Inputs of the noise network in addition to state, mean and time, by name."""
        model, inputs = self._model, {}
        if model.network_setting("lens"):
            lens = batch_lens(conditions, batch, model.config.task)
            inputs["lens"] = lens.to(model.device)
        if model.network_setting("guide"):
            inputs["guide"] = latent_guide(model.latent_unet, guide)
        return inputs

    def _prepared(self, lq: Tensor) -> Tensor:
        """The photos at the size of the result, float32 or integers.

        Integers are converted here, unless tiles or bands of them are converted later one at a
        time, which saves memory.
        """
        model, upscale = self._model, self._model.config.upscale
        needs_float = model.latent_unet is None and not model.runs_on_reduced_copy(lq)
        if needs_float or upscale or not is_integer(lq):
            return enlarge(to_float(lq), upscale)
        return lq

    def _finite(self, compute: Callable[[LoadedModel], T]) -> T:
        """The result of a function of the model; again in float32 if it is not finite."""
        result = _attempt(self._model, compute)
        if result is None and self._model.dtype != torch.float32:
            logger.warning("no finite result in %s; again in fp32", self._model.precision)
            model = self._model
            wide = LoadedModel.load(self._source, model.device, torch.float32, model.memory)
            result = _attempt(wide, compute)
        if result is None:
            raise RefusionError(
                f"the '{self.info.task}' model gave values that are not finite, in float32 too: "
                "its weights are damaged or the sampler diverged; try more steps or "
                "--sampler posterior"
            )
        return result


def _attempt(model: LoadedModel, compute: Callable[[LoadedModel], T]) -> T | None:
    """The result of a function of the model; None if it is not finite."""
    try:
        return compute(model)
    except FloatingPointError:
        return None


def _restored(model: LoadedModel, request: Request, photos: Tensor) -> Tensor:
    """Restored photos, not clamped, on the device of `photos`.

    Raises:
        FloatingPointError: a value is not finite.
    """
    restore = restore_pixels if model.latent_unet is None else restore_latent
    result = restore(model, request, photos)
    if not is_integer(result):
        low, high = result.aminmax()  # needs no copy of the photos, unlike `isfinite` of all values
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise FloatingPointError("values that are not finite")
    return result
