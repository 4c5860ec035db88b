"""Stage `regression`: a network that maps the degraded photo to the restored one, no diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from refusion.checkpoint import Model
from refusion.config import RunConfig, find_table, model_config
from refusion.images.resize import enlarge
from refusion.restorers.regression import Regression
from refusion.sde.objectives import LOSSES
from refusion.training.stages.base import CheckpointStage, ResultAndTarget, Viewer, check_pair


class RegressionStage(CheckpointStage):
    """Stage `regression`, see `Stage`."""

    prefix = "network."
    kept = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.model_config = model_config(config)
        network = config.network
        self.module = find_table("nets")[network.type](**network.settings).to(device)
        self.fixed: dict[str, Tensor] = {}
        self.distance = LOSSES[config.objective.settings.get("loss", "l1")]

    def compile(self) -> None:
        """See `Stage.compile`."""
        self.module.compile()

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Distance between the restored photos `lq` and `gt`; it uses no random numbers."""
        check_pair(batch, self.model_config)
        restored = self.module(enlarge(batch["lq"], self.model_config.upscale))
        return {"total": self.distance(restored.float(), batch["gt"])}

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make the function that restores a validation image."""
        restorer = Regression(model, device=device)

        def view(item: Mapping[str, Tensor]) -> dict[str, ResultAndTarget]:
            return {"restored": (restorer.restore(item["lq"]), item["gt"])}

        return view
