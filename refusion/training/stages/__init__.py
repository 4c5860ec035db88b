"""The training stages, by the value of `stage` in an experiment file.

A new stage is one file with a class as in `base.Stage` and one entry in `STAGES`. The sections that
it reads are checked by the class itself.
"""

from __future__ import annotations

import torch

from refusion.config import RunConfig
from refusion.randomness import keyed_generator
from refusion.training.stages.base import Stage
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

WEIGHTS_KEY = 1  # key of the random stream of the initialisation


def build_stage(config: RunConfig, device: torch.device) -> Stage:
    """Make the stage of a run with the initial weights that its seed gives.

    Args:
        config: config of the run.
        device: device of the networks.

    Raises:
        CheckpointError: the latent U-Net or another model that the stage uses cannot be read.
        ConfigError: the settings do not suit the stage.
    """
    with torch.random.fork_rng(devices=[]):
        # PyTorch initialises layers with the global generator, so seed it within this block.
        torch.manual_seed(keyed_generator(config.train.seed, WEIGHTS_KEY).initial_seed())
        return STAGES[config.stage](config, device)
