"""The 33 published option files, and .pth files as the authors' code would have written them."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

REFERENCE = Path(__file__).parent / "reference"
OPTIONS = json.loads((REFERENCE / "official_options.json").read_text(encoding="utf-8"))
TRAIN = {name: raw for name, raw in OPTIONS.items() if "/train/" in name}
TEST = {name: raw for name, raw in OPTIONS.items() if "/test/" in name}

HAZE_UNET = {"ch": 8, "ch_mult": [4, 8, 8, 16], "embed_dim": 8}
BOKEH_UNET = {"ch": 64, "ch_mult": [1, 2, 4], "embed_dim": 4}


def recorded_weights(case):
    """Weights of a recorded case under their official names, and its inputs and outputs."""
    tensors = load_file(REFERENCE / f"{case}.safetensors")
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if "weights." in k}
    return weights, {k: v for k, v in tensors.items() if "weights." not in k}


def save_pth(path, state):
    """Write a file the way `torch.save` does in the authors' code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def fresh_weights(net, seed=0):
    """State dict of a new network with every tensor drawn, as gains start at zero."""
    generator = torch.Generator().manual_seed(seed)
    return {k: 0.1 * torch.randn(v.shape, generator=generator) for k, v in net.state_dict().items()}
