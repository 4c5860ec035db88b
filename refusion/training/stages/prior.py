"""Stage `prior`: an unconditional DDPM, the prior of DDRM."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from refusion.checkpoint import Model
from refusion.restorers.base import Conditions
from refusion.restorers.ddrm.priors import build_prior
from refusion.restorers.ddrm.problems import denoise
from refusion.restorers.ddrm.restorer import DDRM
from refusion.training.stages.base import ResultAndTarget, Viewer
from refusion.training.stages.diffusion import DiffusionStage


class PriorStage(DiffusionStage):
    """Stage `prior`, see `Stage`; it uses only the clean images of the data."""

    def encode(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the clean images `gt` as `x0`, and as `mu`, which the process does not use."""
        return {"mu": batch["gt"], "x0": batch["gt"]}

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make the function that denoises a validation image with DDRM."""
        restorer = DDRM(build_prior(model, device, torch.float32), denoise())

        def view(item: Mapping[str, Tensor]) -> dict[str, ResultAndTarget]:
            return {
                "restored": (
                    restorer.restore(item["lq"], conditions=Conditions.from_item(item)),
                    item["gt"],
                )
            }

        return view
