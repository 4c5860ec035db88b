"""Stage `diffbir`: the control branch of a Stable Diffusion (stage 2 of DiffBIR).

Lin et al., ECCV 2024. The Stable Diffusion and stage 1 are frozen. The branch is trained with the
loss of the diffusion model on noisy latents of the ground truth; its condition is the latent of the
result of stage 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from refusion.config import RunConfig
from refusion.errors import ConfigError
from refusion.restorers import load_restorer
from refusion.restorers.diffbir import DiffBIR, DiffBIRSettings
from refusion.stable_diffusion import encode_photo, load_stable_diffusion
from refusion.stable_diffusion.control import (
    build_control,
    load_matching_tensors,
    predict_controlled,
    read_control,
    save_control,
)
from refusion.stable_diffusion.folder import cast
from refusion.training.stages.base import ResultAndTarget, Viewer
from refusion.training.stages.diffusion import sample_noise
from refusion.weights import find_weights


class DiffBIRStage:
    """Stage `diffbir`, see `Stage`.

    Raises:
        CheckpointError: the Stable Diffusion, stage 1 or the initial weights cannot be used.
        ConfigError: stage 1 changes the size of photos or needs conditions.
    """

    prefix = ""
    kept = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        settings = self.settings = config.diffbir
        self.fixed: dict[str, Tensor] = {}
        precision = config.train.precision
        self.sd = load_stable_diffusion(settings.sd, device=device, precision=precision)
        control = build_control(self.sd)
        if settings.control is not None:
            tensors = read_control(settings.control, self.sd)
            expected = f"of a control branch for {settings.sd}"
            load_matching_tensors(control, tensors, Path(settings.control), expected)
        self.module: nn.Module = control
        self.stage1 = None
        if settings.stage1 is not None:
            path = find_weights(settings.stage1)
            self.stage1 = load_restorer(path, device=device, precision=precision)
        DiffBIR(self.sd, control, self.stage1)  # raises if stage 1 cannot be used
        with torch.no_grad():
            self.prompts = self.sd.embed(["", settings.prompt])

    def compile(self) -> None:
        """See `Stage.compile`."""
        self.module.compile()

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Mean squared error of the network's output at a random time per image.

        Args:
            batch: `lq` and `gt` of the same size, sides multiples of the networks' strides.
            generators: one CPU generator per image.
        """
        schedule = self.sd.schedule
        condition, x0 = self._latents(batch, generators)
        t = torch.stack([torch.randint(schedule.T, (), generator=g) for g in generators])
        noise = sample_noise(x0, generators)
        has_prompt = torch.stack([torch.rand((), generator=g) for g in generators])
        has_prompt = (has_prompt >= self.settings.prompt_dropout).long()
        output = predict_controlled(
            self.sd,
            self.module,
            schedule.noised(x0, noise, t),
            condition,
            t.to(x0.device, non_blocking=True),
            self.prompts[has_prompt.to(x0.device, non_blocking=True)],
        )
        return {"total": mse_loss(output, schedule.target(x0, noise, t))}

    @torch.no_grad()
    def _latents(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> tuple[Tensor, Tensor]:
        """Mean latent of the result of stage 1, and a sampled latent of the ground truth."""
        lq, gt, multiple = batch["lq"], batch["gt"], self.sd.factor * self.sd.align
        if lq.shape != gt.shape or any(side % multiple for side in gt.shape[-2:]):
            raise ConfigError(
                f"data.train: stage diffbir needs pairs of one size and patches in multiples of "
                f"{multiple}, got lq {tuple(lq.shape[-2:])} and gt {tuple(gt.shape[-2:])}"
            )
        with torch.autocast(gt.device.type, enabled=False):
            clean = lq if self.stage1 is None else self.stage1.restore(lq.float(), tile=None)
            condition = encode_photo(self.sd, clean)
            x0 = encode_photo(self.sd, gt, noise=lambda mean: sample_noise(mean, generators))
        return condition, x0

    def build(self, tensors: dict[str, Tensor], path: Path) -> nn.Module:
        """See `Stage.build`; the result equals that of `load_control`."""
        control = build_control(self.sd).eval().requires_grad_(False)
        control.load_state_dict(tensors)
        return cast(control, self.sd.device, self.sd.dtype)

    def save(
        self,
        path: str | Path,
        tensors: dict[str, Tensor],
        info: Mapping[str, Any],
        dtype: torch.dtype | None,
    ) -> None:
        """See `Stage.save`."""
        save_control(path, tensors, info, dtype)

    def viewer(self, model: nn.Module, device: torch.device) -> Viewer:
        """Make the function that restores a validation image with the averaged branch."""
        settings = DiffBIRSettings(
            steps=self.settings.sampling_steps,
            sampler=self.settings.sampler,
            prompt=self.settings.prompt,
        )
        restorer = DiffBIR(self.sd, model, self.stage1, settings)

        def view(item: Mapping[str, Tensor]) -> dict[str, ResultAndTarget]:
            return {"restored": (restorer.restore(item["lq"]), item["gt"])}

        return view
