"""Tiny models for exports, with random weights in every layer."""

import torch
from tiny_models import CONFIGS, DIFFUSION, OTHERS, PIXEL, SWINIR

from refusion.checkpoint import read_checkpoint, save_checkpoint
from refusion.nets import NETS
from refusion.sde.scattering import CHANNELS

WINDOW = {"network": PIXEL | {"pool_window": 32}, **DIFFUSION}
DARK = PIXEL | {"out_channel": 10, "sees_state": False, "border": 16, "dark_windows": [5, 15]}
UNET = {"network": {"type": "ConditionalUNet", "nf": 8, "depth": 2}, **DIFFUSION}
NAFNET = {"type": "NAFNet", "width": 8, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}
PRIOR = {
    "type": "UnconditionalUNet",
    "image_size": 32,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "head_channels": 8,
    "groups": 4,
}
MODELS = CONFIGS | OTHERS | {
    "window": WINDOW,
    "dark": {"network": DARK, **DIFFUSION, "prediction": "scattering"},
    "conditional_unet": UNET,
    "doubling": {"network": SWINIR | {"upsampler": "nearest+conv", "num_feat": 8}, "task": "blind"},
    "nafnet": {"network": NAFNET | {"pool_window": 40, "border": 4, "middle_blk_num": 1},
               "task": "blind"},
    "prior": {
        "network": PRIOR,
        "task": "prior",
        "sde": {"type": "VPSDE", "T": 100},
        "prediction": "noise",
        "sampling": {"sampler": "posterior", "steps": 5},
    },
}  # fmt: skip


def checkpoint_of(folder, config, scale=0.1, **sampling):
    """A weights file of a config; `sampling` replaces settings of its section."""
    config = {"task": "test"} | config
    if sampling:
        config["sampling"] = config["sampling"] | sampling
    torch.manual_seed(0)
    tensors = {}
    for part in ("network", "latent_unet"):
        settings = dict(config.get(part) or {})
        if not settings:
            continue
        net = NETS[settings.pop("type")](**settings)
        for name, tensor in net.state_dict().items():
            is_zero = tensor.is_floating_point() and not tensor.any()
            tensors[f"{part}.{name}"] = torch.randn_like(tensor) * scale if is_zero else tensor
            if name == "ending.bias" and len(tensor) == CHANNELS:  # of a model that predicts haze
                tensors[f"{part}.{name}"][:1] = 3.0  # an optical depth of 0.6
    path = folder / "model.safetensors"
    save_checkpoint(path, config, tensors, {}, torch.float16)
    return read_checkpoint(path)
