"""Refusion: mean-reverting diffusion on pixels, or in the latent of a `LatentUNet`.

In the latent, z of the degraded photo is the mean mu that the process reverts to; the restored
latent is decoded with the degraded photo's skips (CVPRW 2023, section 3.1).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from refusion.checkpoint import Model
from refusion.devices.allocator import reuse_freed_memory
from refusion.devices.precision import PRECISIONS, cast_network, choose_device, choose_precision
from refusion.errors import ConfigError, RefusionError
from refusion.images.check import check_image
from refusion.images.resize import enlarge, shrink
from refusion.images.samples import is_integer, store, to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, match_dtype
from refusion.restorers.conditions import batch_guide, batch_lens, required_conditions
from refusion.restorers.refusion.sampling_plan import SamplingPlan, is_stochastic, plan_sampling
from refusion.sde import DenoisingSDE, Estimate, SeededNoise, build_sde, estimate
from refusion.tiling.blending import blend_tiles
from refusion.tiling.exact import Count, decode_tiled, encode_tiled, latent_guide
from refusion.tiling.guided import guided_upsample, guided_upsample_bands
from refusion.tiling.memory import auto_tile, with_smaller_tiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Networks:
    """The model's networks, on their device and in their number format."""

    network: nn.Module | None
    latent_unet: nn.Module | None
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class _Options:
    """Checked arguments of `restore`."""

    walk: SamplingPlan | None  # None where there is no diffusion
    tile: int | Literal["auto"] | None
    network_inputs: Mapping[str, Tensor]  # what the network takes beside the time
    guide: Tensor | None  # what the latent U-Net takes beside the photo
    strength: float
    callback: Progress | None

    def count(self, stage: str) -> Count | None:
        """`callback` with its stage filled in."""
        if self.callback is None:
            return None
        return lambda done, total: self.callback(stage, done, total)


class Refusion:
    """Restores photos with the model of a checkpoint; see `Restorer` for the contract.

    A latent U-Net without a diffusion network gives its reconstruction of the photo, the bound of
    what the diffusion can reach.

    Args:
        model: networks and config; the networks are copied, so what is done to them later does
            not show here.
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.
        memory: bytes that the whole process may take, on a GPU of the GPU's memory; tiles that
            choose their own size keep to it. None for as much as tiles of useful size take.

    Raises:
        ConfigError: device or precision unknown or not to be had.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        memory: int | None = None,
    ) -> None:
        self._model, self._memory = model, memory
        where = choose_device(device)
        self._networks = _cast(model, where, choose_precision(precision, where))
        sde = model.config.sde
        self._sde = None if sde is None else build_sde({"type": sde.type, **sde.settings})

    @property
    def info(self) -> RestorerInfo:
        """What this restorer is."""
        config, networks = self._model.config, self._networks
        unet = networks.latent_unet
        return RestorerInfo(
            family=type(self).__name__,
            task=config.task,
            scale=config.upscale.factor if config.upscale else 1,
            views=2 if self._setting("stereo") else 1,
            needs=required_conditions(config),
            stochastic=self._sde is not None and is_stochastic(self._sde, config.sampling),
            sampler=config.sampling.sampler if config.sampling else None,
            steps=config.sampling.steps if config.sampling else 0,
            factor=1 if unet is None else unet.factor,
            tiling="blended" if unet is None else "exact",
            device=str(networks.device),
            precision=next(name for name, d in PRECISIONS.items() if d == networks.dtype),
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

        A result that is not finite in a narrow number format is computed again in float32, with a
        logged warning.
        """
        # Six standard deviations, all that ever comes, where noise is the process's own.
        margin = 6 * self._sde.lam if isinstance(self._sde, DenoisingSDE) else 0.0
        check_image("lq", lq, 3 * self.info.views, margin, integers=True)
        options = self._check(lq, steps, sampler, seed, tile, conditions, strength, callback)
        networks, given = self._networks, lq
        with torch.no_grad():
            # Exact tiles and bands of what a copy changes become floats one at a time, all else
            # is floats from here on.
            is_whole = self.info.tiling == "blended" and not self._is_reduced(lq)
            if is_whole or self._model.config.upscale or not is_integer(lq):
                lq = enlarge(to_float(lq), self._model.config.upscale)
            if strength == 0:  # not even the U-Net's reconstruction
                return match_dtype(lq.clone(), given)
            result = self._attempt(networks, lq, options)
            if networks.dtype != torch.float32 and result is None:
                logger.warning("no finite result in %s; again in fp32", self.info.precision)
                networks = _cast(self._model, networks.device, torch.float32)
                result = self._attempt(networks, lq, options)
        if result is None:
            raise RefusionError(
                f"the '{self.info.task}' model gave values that are not finite, in float32 too: "
                "its weights are damaged or the sampler diverged; try more steps or "
                "--sampler posterior"
            )
        return match_dtype(result, given)

    def _setting(self, name: str) -> object:
        """A setting of the noise network, None if it has none of that name."""
        network = self._model.config.network
        return None if network is None else network.settings.get(name)

    def _check(
        self,
        lq: Tensor,
        steps: int | None,
        sampler: str | None,
        seed: int | Sequence[int],
        tile: int | str | None,
        conditions: Conditions,
        strength: float,
        callback: Progress | None,
    ) -> _Options:
        check_options(len(lq), seed, tile, strength)
        walk, config = None, self._model.config
        if self._sde is not None:
            noise = SeededNoise(seed)
            walk = plan_sampling(config, self._sde, conditions, noise, steps=steps, sampler=sampler)
        elif (steps, sampler) != (None, None):
            raise ConfigError(
                f"steps, sampler: the '{config.task}' model is a latent U-Net alone, which has no "
                "process to walk; leave them out"
            )
        guide = batch_guide(conditions, config.guide, lq, config.task)
        network_inputs = self._conditions(conditions, guide, len(lq))
        return _Options(walk, tile, network_inputs, guide, strength, callback)

    def _conditions(
        self, conditions: Conditions, guide: Tensor | None, batch: int
    ) -> dict[str, Tensor]:
        """What the noise network takes beside state, mean and time."""
        told = {}
        if self._setting("lens"):
            lens = batch_lens(conditions, batch, self.info.task)
            told["lens"] = lens.to(self._networks.device)
        if self._setting("guide"):
            told["guide"] = latent_guide(self._networks.latent_unet, guide)
        return told

    def _attempt(self, networks: _Networks, lq: Tensor, options: _Options) -> Tensor | None:
        """Restored photos, not clamped, on the device of `lq`; None if they are not finite."""
        try:
            result = self._run(networks, lq, options)
        except FloatingPointError:
            return None
        return result if is_integer(result) or _is_finite(result) else None

    def _run(self, networks: _Networks, lq: Tensor, options: _Options) -> Tensor:
        unet = networks.latent_unet
        if unet is None:
            return self._restored_pixels(networks, lq, options)
        tile = self._tile(networks, unet, lq, options)
        latent = with_smaller_tiles(
            lambda side: encode_tiled(unet, lq, side, options.count("encode"), options.guide), tile
        )
        if networks.network is not None:
            latent = replace(latent, z=self._restored(networks, lq, latent.z.float(), options))
        return with_smaller_tiles(
            lambda side: decode_tiled(
                unet, lq, latent, side, options.count("decode"), options.guide
            ),
            tile,
        )

    def _tile(
        self,
        networks: _Networks,
        tiled: nn.Module,
        lq: Tensor,
        options: _Options,
        copy: Tensor | None = None,
    ) -> int:
        """Side of the tiles of photos; of a copy of theirs, which has no tiles to be told of."""
        tile = options.tile or max(lq.shape)
        if options.tile == "auto" or copy is not None:
            tile = auto_tile(tiled, networks.dtype, lq, networks.device, self._memory, copy)
        return min(tile, _reach(lq if copy is None else copy, tiled))

    def _restored_pixels(self, networks: _Networks, lq: Tensor, options: _Options) -> Tensor:
        """Restored photos of a model without a latent, where a copy is seen of the kind of `lq`."""
        small = self._small(lq)
        tile = self._tile(networks, networks.network, lq, options, small)
        mu = (lq if small is None else small).to(networks.device)
        x0 = with_smaller_tiles(lambda side: self._sample(networks, mu, options, side), tile)
        if small is None:
            return x0.to(lq.device)
        change = (x0 - mu).to(lq.device)
        if not _is_finite(change):  # integers could not say so
            raise FloatingPointError("values that are not finite")
        out = torch.empty(lq.shape, dtype=lq.dtype, device=lq.device)
        for rows, band in guided_upsample_bands(change, small, lq):
            store(band.add_(to_float(lq[..., rows, :])), out[..., rows, :])
        return out

    def _is_reduced(self, lq: Tensor) -> bool:
        """Whether the process is to run on a smaller copy of photos of this size."""
        sampling = self._model.config.sampling
        side = None if sampling is None else sampling.process_side
        return side is not None and side < max(lq.shape[-2:])

    def _small(self, lq: Tensor) -> Tensor | None:
        """The copy of the photos that the process is to run on, None if on the photos."""
        return shrink(lq, self._model.config.sampling.process_side) if self._is_reduced(lq) else None

    def _restored(self, networks: _Networks, lq: Tensor, z: Tensor, options: _Options) -> Tensor:
        """Latent of the restored photos, from the latent z of the degraded ones."""
        small = self._small(lq)
        if small is None:
            return self._sample(networks, z, options, None)
        guide = encode_tiled(networks.latent_unet, small, None).z.float()
        change = self._sample(networks, guide, options, None) - guide
        # Both latents are padded at the bottom and right; compare them by the photo's own extent.
        extent = tuple(
            length * part / whole
            for length, part, whole in zip(
                z.shape[-2:], small.shape[-2:], lq.shape[-2:], strict=True
            )
        )
        return z.add_(guided_upsample(change, guide, z, extent))

    def _sample(
        self, networks: _Networks, mu: Tensor, options: _Options, tile: int | None
    ) -> Tensor:
        """Run the reverse process from mu plus noise; state float32, `tile` for pixels only."""
        sde, network = self._sde, networks.network
        prediction = self._model.config.prediction

        def denoise(xt: Tensor, mu: Tensor, t: float) -> Estimate:
            def at_t(xt: Tensor, mu: Tensor) -> Tensor:
                given = (xt.to(networks.dtype), mu.to(networks.dtype), t)
                with reuse_freed_memory():
                    return network(*given, **options.network_inputs).to(xt.dtype)

            tiled = tile is not None
            output = blend_tiles(at_t, xt, mu, tile, network.factor) if tiled else at_t(xt, mu)
            return estimate(sde, prediction, output, xt, mu, t)

        count = options.count("sample")
        told = None if count is None else lambda done, total, _: count(done, total)
        x0 = options.walk.run(denoise, mu, told)
        # The process' mean where alpha_t = strength, or, of a DenoisingSDE, where the spread has
        # come down to 1 - strength of the photo's: docs/math.md, "Strength".
        return torch.lerp(mu, x0, options.strength)  # at 1 exactly x0


def _cast(model: Model, device: torch.device, dtype: torch.dtype) -> _Networks:
    parts = (model.network, model.latent_unet)
    cast = [None if part is None else cast_network(part, device, dtype) for part in parts]
    return _Networks(*cast, device, dtype)


def _reach(lq: Tensor, network: nn.Module) -> int:
    """The tile that already holds the whole padded photo: halving must start there."""
    return max(lq.shape[-2:]) + getattr(network, "multiple", 1)


def _is_finite(x: Tensor) -> bool:
    low, high = x.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))
