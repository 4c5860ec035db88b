"""The reverse process for one batch: from the degraded image mu, or its latent, to x_0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from refusion.devices.allocator import reuse_freed_memory
from refusion.restorers.base import HazeOptions, Progress
from refusion.restorers.refusion.model import LoadedModel
from refusion.restorers.refusion.sampling_plan import SamplingPlan
from refusion.sde import Estimate, estimate
from refusion.tiling.blending import blend_tiles


@dataclass(frozen=True)
class Request:
    """Checked arguments of `Restorer.restore`.

    Attributes:
        plan: sampler, steps, start and noise; None for a latent U-Net alone.
        tile: side of the tiles in pixels, 'auto', or None for no tiles.
        network_inputs: inputs of the noise network in addition to state, mean and time, by name.
        guide: input of the latent U-Net in addition to the photo, (B, G, H, W); None without one.
        strength: weight of the restoration, from 0 (the photo) to 1 (the restored photo); -2 to 2
            for the prediction `scattering`.
        haze: how haze is removed, for models with the prediction `scattering`.
        callback: is called with the progress; None for no reports.
    """

    plan: SamplingPlan | None
    tile: int | Literal["auto"] | None
    network_inputs: Mapping[str, Tensor]
    guide: Tensor | None
    strength: float
    haze: HazeOptions
    callback: Progress | None

    def progress(self, stage: str) -> Callable[[int, int], None] | None:
        """A callback `(done, total)` for one stage; None without `callback`.

        Args:
            stage: 'encode', 'sample' or 'decode', see `Progress`.
        """
        if self.callback is None:
            return None
        return lambda done, total: self.callback(stage, done, total)


def sample(model: LoadedModel, request: Request, mu: Tensor, tile: int | None = None) -> Tensor:
    """Restored images or latents, see `run_process`, with the strength of the request.

    Args:
        model: its network is called for every step.
        request: plan, conditions and strength.
        mu: degraded images or their latents (B, C, h, w), float32, on the model's device.
        tile: side of blended tiles in pixels; None for no tiles.

    Returns:
        Restored images or latents, like `mu`.
    """
    x0, _ = run_process(model, request, mu, tile)
    # With strength s, this is the mean of the process at the time t with alpha_t = s. For a
    # DenoisingSDE it is the photo with 1 - s times its noise. See docs/math.md, "Strength".
    return torch.lerp(mu, x0, request.strength)  # exactly x0 at strength 1


def run_process(
    model: LoadedModel, request: Request, mu: Tensor, tile: int | None = None
) -> tuple[Tensor, Estimate]:
    """Run the reverse process; the state is float32 for every number format of the networks.

    Args:
        model: its network is called for every step, or once if it does not see the state.
        request: plan and conditions; the strength is not used.
        mu: degraded images or their latents (B, C, h, w), float32, on the model's device.
        tile: side of blended tiles in pixels; None for no tiles.

    Returns:
        x0, like `mu`, and the estimate of the last step.
    """
    network, prediction = model.network, model.config.prediction
    factor = getattr(network, "factor", 1)  # positions and sides of tiles are multiples of it
    outputs: list[Tensor] = []  # of the last call
    last: list[Estimate] = []

    def denoise(xt: Tensor, mu: Tensor, t: float) -> Estimate:
        def at_t(xt: Tensor, mu: Tensor) -> Tensor:
            inputs = (xt.to(model.dtype), mu.to(model.dtype), t)
            with reuse_freed_memory():
                return network(*inputs, **request.network_inputs).to(xt.dtype)

        if model.sees_state or not outputs:
            outputs[:] = [at_t(xt, mu) if tile is None else blend_tiles(at_t, xt, mu, tile, factor)]
        last[:] = [estimate(model.sde, prediction, outputs[0], xt, mu, t)]
        return last[0]

    progress = request.progress("sample")
    callback = None if progress is None else lambda done, total, _: progress(done, total)
    x0 = request.plan.run(denoise, mu, callback)
    return x0, last[0]
