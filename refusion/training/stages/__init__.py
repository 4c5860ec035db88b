"""The training stages, by the value of `stage` in an experiment file.

A new stage is one file with a class as in `base.Stage` and one entry in `STAGES`. The sections that
it reads are checked by the class itself.
"""

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
