"""Restoration with a regression network, which maps the photo to the result in one call."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.checkpoint import Model
from refusion.devices.allocator import reuse_freed_memory
from refusion.devices.precision import cast_network, choose_device, choose_precision, precision_name
from refusion.errors import ConfigError, RefusionError
from refusion.images.check import check_image
from refusion.images.resize import enlarge
from refusion.images.samples import to_float
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_options, keep_flat_photos, match_dtype
from refusion.tiling.blending import blend_tiles
from refusion.tiling.memory import auto_tile, on_device, with_smaller_tiles

logger = logging.getLogger(__name__)


class Regression:
    """Restores photos with the regression network of a checkpoint; see `Restorer` for the contract.

    Photos that need too much memory are restored in tiles, which overlap and are blended. The
    context of the network ends at the border of a tile, so the result differs slightly from the
    result without tiles.

    Args:
        model: network and config; the network is copied.
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.
        memory: maximum number of bytes of the whole process, see `Refusion`; None for no limit.

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
        check_arguments(Regression.__init__, locals())
        self._model, self._memory = model, memory
        self._device = choose_device(device)
        self._dtype = choose_precision(precision, self._device)
        self._network = cast_network(model.network, self._device, self._dtype)

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        config = self._model.config
        return RestorerInfo(
            family=type(self).__name__,
            task=config.task,
            scale=config.upscale.factor if config.upscale else 1,
            views=1,
            needs=frozenset(),
            stochastic=False,
            sampler=None,
            steps=0,
            factor=1,
            tiling="blended",
            device=str(self._device),
            precision=precision_name(self._dtype),
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
        check_image("lq", lq, 3, integers=True)
        check_options(len(lq), seed, tile, strength)
        task = self.info.task
        if (steps, sampler) != (None, None):
            raise ConfigError(
                f"steps, sampler: the '{task}' model is a regression, without a diffusion process; "
                "leave them out"
            )
        placed = on_device(lq, self._device, self._memory)
        photo = enlarge(to_float(placed), self._model.config.upscale)
        if strength == 0:
            return match_dtype(photo.clone(), placed).to(lq.device)
        with torch.no_grad():
            result = self._finite_result(photo, tile, callback)
            result = keep_flat_photos(torch.lerp(photo, result, strength), photo)
            return match_dtype(result, placed).to(lq.device)

    def _finite_result(
        self, photo: Tensor, tile: int | Literal["auto"] | None, callback: Progress | None
    ) -> Tensor:
        """Restored photos, not clamped; in float32 if the narrow format gives no finite result."""
        result = self._run(self._network, photo, tile, callback)
        if self._dtype != torch.float32 and not torch.isfinite(result).all():
            logger.warning("no finite result in %s; again in fp32", self.info.precision)
            network = cast_network(self._model.network, self._device, torch.float32)
            result = self._run(network, photo, tile, callback)
        if not torch.isfinite(result).all():
            raise RefusionError(
                f"the '{self.info.task}' model gave values that are not finite, in float32 too: "
                "its weights are damaged; use another weights file"
            )
        return result

    def _run(
        self,
        network: nn.Module,
        photo: Tensor,
        tile: int | Literal["auto"] | None,
        callback: Progress | None,
    ) -> Tensor:
        """Restored photos, not clamped, on the device of `photo`."""
        if tile == "auto":
            tile = auto_tile(network, self._dtype, photo, self._device, self._memory)
        factor = getattr(network, "factor", 1)  # positions and sides of tiles are multiples of it
        # Tiles of a single unit of `factor` pixels would not overlap.
        side = max(photo.shape) if tile is None else max(tile, 2 * factor)
        lq, dtype = photo.to(self._device), next(network.parameters()).dtype
        dtype = torch.float32 if getattr(network, "takes_float32", False) else dtype
        progress = None if callback is None else partial(callback, "decode")

        def predict(crop: Tensor, _: Tensor) -> Tensor:
            return network(crop.to(dtype))

        def run(side: int) -> Tensor:
            with reuse_freed_memory():
                return blend_tiles(predict, lq, lq, side, factor, progress)

        return with_smaller_tiles(run, side).to(photo.device)
