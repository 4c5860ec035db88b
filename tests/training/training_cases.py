"""Runs small enough to train in a second."""

import numpy as np
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from refusion.config import config_from_dict

UNET = {"type": "LatentUNet", "ch": 4, "ch_mult": [1, 2], "embed_dim": 4}
TRAIN = {
    "steps": 6,
    "optimizer": {"type": "Lion", "lr": 1e-3},
    "ema_decay": 0.9,
    "precision": "fp32",
    "log_every": 2,
    "validate_every": 6,
    "checkpoint_every": 2,
}


def make_photos(folder, count=3, side=48):
    """Write a few colourful photos; returns the folder."""
    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"photo{number}.png")
    return folder


def run_config(stage, photos, cache, **changes):
    """Config of a tiny run of ``stage``; ``changes`` replace top-level sections."""
    synthetic = {
        "type": "SyntheticPairs",
        "folders": [str(photos)],
        "cache": str(cache),
        "degradation": {"type": "Haze"},
    }
    raw = {
        "name": f"tiny_{stage}",
        "task": "dehaze",
        "stage": stage,
        "data": {
            "train": synthetic | {"patch": 16},
            "validation": [synthetic | {"name": "whole", "whole": True, "max_side": 32}],
            "batch_size": 2,
            "workers": 0,
        },
        "train": TRAIN,
    }
    if stage == "latent_unet":
        raw["latent_unet"] = UNET
    else:
        raw |= {
            "latent_unet": None,
            "network": {
                "type": "ConditionalNAFNet",
                "img_channel": 3,
                "width": 8,
                "enc_blk_nums": [1],
                "dec_blk_nums": [1],
            },
            "sde": {"type": "IRSDE", "max_sigma": 50, "T": 100},
            "prediction": "x0_residual",
            "objective": {"type": "x0"},
            "sampling": {"sampler": "posterior", "steps": 2},
        }
    return config_from_dict(raw | changes)


class BlockingCopies(TorchFunctionMode):
    """Context that collects the integer tensors whose copy would make the CPU wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        places = [*args[1:], *kwargs.values()]
        moves = function is torch.Tensor.to and any(isinstance(x, torch.device) for x in places)
        if moves and not args[0].is_floating_point() and not kwargs.get("non_blocking", False):
            self.found.append(args[0])
        return function(*args, **kwargs)
