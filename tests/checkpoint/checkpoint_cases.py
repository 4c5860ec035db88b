"""A small latent model and weights for it."""

from __future__ import annotations

import torch
from torch import Tensor

from refusion.config import ModelConfig
from refusion.config.parser import Component
from refusion.config.sections import SamplingConfig
from refusion.nets import ConditionalNAFNet, LatentUNet

UNET = {"in_ch": 3, "out_ch": 3, "ch": 4, "ch_mult": [1, 2], "embed_dim": 4}
NAF = {"img_channel": 4, "width": 4, "enc_blk_nums": [1], "middle_blk_num": 1,
       "dec_blk_nums": [1], "wiring": "latent"}  # fmt: skip
MODEL = ModelConfig(
    task="dehaze",
    latent_unet=Component("LatentUNet", UNET),
    network=Component("ConditionalNAFNet", NAF),
    sde=Component("IRSDE", {"max_sigma": 50.0, "T": 100}),
    prediction="x0_residual",
    sampling=SamplingConfig("posterior", 4),
)


def make_tensors() -> dict[str, Tensor]:
    """Weights of both networks, every tensor non-zero so that a mix-up shows."""
    generator = torch.Generator().manual_seed(0)
    nets = {"network": ConditionalNAFNet(**NAF), "latent_unet": LatentUNet(**UNET)}
    return {
        f"{part}.{name}": torch.randn(tensor.shape, generator=generator)
        for part, net in nets.items()
        for name, tensor in net.state_dict().items()
    }
