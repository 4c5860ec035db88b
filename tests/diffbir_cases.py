"""A tiny DiffBIR: random Stable Diffusion, random control branch or its file, a blur as stage 1."""

import torch
import torch.nn.functional as F

from refusion.restorers import DiffBIR, RestorerInfo
from refusion.restorers.diffbir import DiffBIRSettings
from refusion.stable_diffusion import load_stable_diffusion
from refusion.stable_diffusion.control import build_control, save_control
from refusion.stable_diffusion.folder import cast


def steering(sd, seed=0):
    """A branch that adds something: its zeros made small random numbers."""
    control = build_control(sd).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(control.named_parameters()):
        if name.startswith("controlnet_"):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return control


def write_control(folder, path):
    """The same branch as a file."""
    sd = load_stable_diffusion(folder, device="cpu", precision="fp32")
    save_control(path, steering(sd).state_dict(), {"step": 0})
    return path


class Blur:
    """Stage 1: a mean over 3x3."""

    def __init__(self, **facts):
        self.facts = facts

    @property
    def info(self):
        facts = {"needs": frozenset(), "scale": 1, "views": 1} | self.facts
        return RestorerInfo("Blur", "blind", stochastic=False, sampler=None, steps=0, factor=1,
                            tiling="exact", device="cpu", precision="fp32", **facts)  # fmt: skip

    def restore(self, lq, **options):
        return F.avg_pool2d(F.pad(lq, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def make(folder, precision="fp32", stage1=None, upscale=1, **settings):
    sd = load_stable_diffusion(folder, device="cpu", precision=precision)
    settings = {"steps": 3, "sampler": "ddim", **settings}
    control = cast(steering(sd), dtype=sd.dtype)
    return DiffBIR(sd, control, stage1, DiffBIRSettings(**settings), upscale)
