"""The stages that a run can be of, by the word in its experiment file."""

from __future__ import annotations

from refusion.training.diffbir import DiffBIRStage
from refusion.training.diffusion import DiffusionStage
from refusion.training.joint import JointStage
from refusion.training.latent_replacement import LatentUNetStage
from refusion.training.one_step import OneStepStage
from refusion.training.osediff import OSEDiffStage
from refusion.training.prior import PriorStage
from refusion.training.regression import RegressionStage

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
