"""The stages that a run can be of, by the word in its experiment file."""

from __future__ import annotations

from refusion.training.stages.diffbir import DiffBIRStage
from refusion.training.stages.diffusion import DiffusionStage
from refusion.training.stages.joint import JointStage
from refusion.training.stages.latent_replacement import LatentUNetStage
from refusion.training.stages.one_step import OneStepStage
from refusion.training.stages.osediff import OSEDiffStage
from refusion.training.stages.prior import PriorStage
from refusion.training.stages.regression import RegressionStage

STAGES = {
    "latent_unet": LatentUNetStage,
    "diffusion": DiffusionStage,
    "joint": JointStage,
    "one_step": OneStepStage,
    "prior": PriorStage,
    "regression": RegressionStage,
    "diffbir": DiffBIRStage,
    "osediff": OSEDiffStage,
}
