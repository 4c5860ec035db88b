"""Stage `prior`: an unconditional DDPM, the prior that DDRM restores with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from refusion.checkpoint import Model
from refusion.restorers.base import Conditions
from refusion.restorers.ddrm.priors import prior_of
from refusion.restorers.ddrm.problems import denoise
from refusion.restorers.ddrm.restorer import DDRM
from refusion.training.stages.base import Pictures, Viewer
from refusion.training.stages.diffusion import DiffusionStage


class PriorStage(DiffusionStage):
    """Stage ``prior`` as the trainer sees it; only the clean pictures of the data are looked at."""

    def encode(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Clean images ``gt`` -> ``x0``, and ``mu``, which nothing reads."""
        return {"mu": batch["gt"], "x0": batch["gt"]}

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make what denoises a validation picture by DDRM."""
        restorer = DDRM(prior_of(model, device, torch.float32), denoise())

        def view(item: Mapping[str, Tensor]) -> dict[str, Pictures]:
            return {
                "restored": (
                    restorer.restore(item["lq"], conditions=Conditions.from_item(item)),
                    item["gt"],
                )
            }

        return view
