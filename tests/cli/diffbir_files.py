"""A control branch as a file."""

import torch

from refusion.stable_diffusion import load_stable_diffusion
from refusion.stable_diffusion.control import build_control, save_control


def write_control(folder, path, factor=0.1):
    """The start of training, but for zero convolutions that are random numbers."""
    sd = load_stable_diffusion(folder, device="cpu", precision="fp32")
    generator = torch.Generator().manual_seed(0)
    tensors = build_control(sd).state_dict()
    for name in sorted(tensors):
        if name.startswith("controlnet_"):
            tensors[name] = factor * torch.randn(tensors[name].shape, generator=generator)
    save_control(path, tensors, {"step": 0})
    return path
