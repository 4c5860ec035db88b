"""Models small enough to restore an image in milliseconds, with random weights of use."""

import torch

from refusion.checkpoint import save_checkpoint
from refusion.nets import NETS
from refusion.restorers import Conditions
from refusion.sde.scattering import CHANNELS

UNET = {"type": "LatentUNet", "ch": 4, "ch_mult": [1, 2, 2], "embed_dim": 4}
NAFNET = {
    "type": "ConditionalNAFNet",
    "width": 8,
    "enc_blk_nums": [1, 1],
    "dec_blk_nums": [1, 1],
}
DIFFUSION = {
    "sde": {"type": "IRSDE", "max_sigma": 50, "T": 100},
    "prediction": "x0_residual",
    "sampling": {"sampler": "posterior", "steps": 3},
}
PIXEL = NAFNET | {"img_channel": 3, "wiring": "pixel"}
DENOISING = DIFFUSION | {
    "sde": {"type": "DenoisingSDE", "max_sigma": 70, "T": 100},
    "prediction": "noise",
}
SWINIR = {
    "type": "SwinIR",
    "embed_dim": 8,
    "depths": [2],
    "num_heads": [2],
    "window_size": 4,
    "unshuffle": 4,
    "upsampler": "pixelshuffledirect",
    "residual": True,
    "img_size": 8,
}
BLIND = {"network": SWINIR, "task": "blind"}  # restores at once: not among `CONFIGS`
# Predicts haze and not an image: not among `CONFIGS`.
HAZE = DIFFUSION | {
    "network": PIXEL | {"out_channel": CHANNELS, "sees_state": False},
    "prediction": "scattering",
    "sampling": {"sampler": "posterior", "steps": 1, "process_side": 32},
}
OTHERS = {"blind": BLIND, "haze": HAZE}
CONFIGS = {
    "unet": {"latent_unet": UNET},
    "pixel": {"network": PIXEL} | DIFFUSION,
    "lens": {"network": PIXEL | {"lens": True}, "task": "bokeh"} | DIFFUSION,
    "stereo": {"network": PIXEL | {"stereo": True}, "task": "stereo"} | DIFFUSION,
    "denoise": {"network": PIXEL | {"conditional": False}, "task": "denoise"} | DENOISING,
    "sr": {"network": PIXEL, "task": "sr", "upscale": {"factor": 2}} | DIFFUSION,
    "stereo_sr": {
        "network": PIXEL | {"stereo": True},
        "task": "stereo_sr",
        "upscale": {"factor": 2, "mode": "nearest"},
    }
    | DIFFUSION,
    "guided": {
        "latent_unet": UNET | {"in_ch": 5},
        "network": NAFNET | {"img_channel": 4, "lens": True, "guide": 2},
        "task": "bokeh",
    }
    | DIFFUSION,
    "latent": {
        "latent_unet": UNET,
        "network": NAFNET | {"img_channel": 4, "wiring": "latent"},
    }
    | DIFFUSION,
}


LENS = torch.tensor([18.0, -14.0, 35.0])
CONDITION_OPTIONS = {
    "lens": {"lens": LENS},
    "denoise": {"noise_std": 25 / 255},
    "guided": {"lens": LENS},
}


def known_of(kind, lq):
    """What the model of a kind must know of photos (B, C, H, W)."""
    told = dict(CONDITION_OPTIONS.get(kind, {}))
    if kind == "guided":
        ramp = torch.linspace(0.1, 0.9, lq.shape[-1])
        told["guide"] = torch.stack([ramp, ramp.flip(0)])[:, None].expand(2, *lq.shape[-2:])
    return Conditions(**told)


def build(section):
    """Network of a config section; gains that start at zero are drawn, so that every part acts."""
    settings = dict(section)
    torch.manual_seed(0)
    network = NETS[settings.pop("type")](**settings)
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")):
            torch.nn.init.normal_(parameter, 0, 0.3)
        if name.startswith("upsample."):  # zero, so that training begins with the photo
            torch.nn.init.normal_(parameter, 0, 0.05)
        if name == "final_conv.bias":
            # Images of mid gray: clamping to [0, 1] would hide differences.
            torch.nn.init.constant_(parameter, 0.5)
        if name == "ending.bias" and len(parameter) == CHANNELS:  # of a model that predicts haze
            torch.nn.init.constant_(parameter[:1], 3.0)  # an optical depth of 0.6
    return network


def save(kind, path):
    """Write the checkpoint of one of `CONFIGS` or `OTHERS`."""
    config = OTHERS[kind] if kind in OTHERS else CONFIGS[kind]
    tensors = {
        f"{part}.{name}": tensor
        for part in ("network", "latent_unet")
        if part in config
        for name, tensor in build(config[part]).state_dict().items()
    }
    save_checkpoint(path, {"task": "dehaze"} | config, tensors, {})
