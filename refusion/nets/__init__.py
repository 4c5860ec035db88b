"""Networks: pure ``torch`` modules, named in YAML by their class names."""

from __future__ import annotations

from torch import nn

from refusion.nets.adm import UnconditionalUNet
from refusion.nets.latent_unet import Latent, LatentUNet
from refusion.nets.nafnet import ConditionalNAFNet
from refusion.nets.swinir import SwinIR
from refusion.nets.unet import ConditionalUNet

NETS: dict[str, type[nn.Module]] = {
    net.__name__: net
    for net in (ConditionalNAFNet, ConditionalUNet, LatentUNet, SwinIR, UnconditionalUNet)
}

__all__ = [
    "NETS",
    "ConditionalNAFNet",
    "ConditionalUNet",
    "Latent",
    "LatentUNet",
    "SwinIR",
    "UnconditionalUNet",
]
