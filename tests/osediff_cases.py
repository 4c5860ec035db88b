"""Adapters of OSEDiff for the tiny Stable Diffusion, with values as if they were trained."""

import torch
from safetensors.torch import load_file

from refusion.metrics import vgg
from refusion.restorers.osediff.weights import OSEDiffWeights, published_modules, save_osediff
from refusion.stable_diffusion import load_stable_diffusion

RANK = 4


def made_weights(sd_folder, spread=0.1):
    """Random adapters under the published names, and a changed first convolution."""
    sd = load_stable_diffusion(sd_folder, device="cpu", precision="fp32")
    generator, parts = torch.Generator().manual_seed(1), {}
    for part, adapters in published_modules(sd).items():
        parts[part] = {}
        for adapter, layers in adapters.items():
            for name in layers:
                weight = getattr(sd, part).get_submodule(name).weight
                narrow = (weight.shape[0], RANK, *[1] * (weight.ndim - 2))
                for side, shape in (("A", (RANK, *weight.shape[1:])), ("B", narrow)):
                    drawn = spread * torch.randn(shape, generator=generator)
                    parts[part][f"{name}.lora_{side}.{adapter}.weight"] = drawn
    first = sd.unet.conv_in
    parts["unet"]["conv_in.base_layer.weight"] = first.weight + 0.02
    parts["unet"]["conv_in.base_layer.bias"] = first.bias - 0.1
    return OSEDiffWeights(**parts)


def official_layout(weights):
    """What the authors' code saves: tensors, ranks, and lists of layers, which it writes twice."""
    lists = {
        f"{part}_lora_{adapter.removeprefix('default_')}_modules": layers * 2
        for part in ("unet", "vae")
        for adapter, layers in weights.modules(part).items()
    }
    states = {f"state_dict_{part}": dict(getattr(weights, part)) for part in ("unet", "vae")}
    return {"rank_unet": RANK, "rank_vae": RANK, **lists, **states}


def write_files(folder, weights):
    """The same adapters as this project's file and as the authors'."""
    save_osediff(folder / "lora.safetensors", weights, {"step": 3}, None)
    torch.save(official_layout(weights), folder / "osediff.pkl")
    assert load_file(folder / "lora.safetensors")
    return folder / "lora.safetensors", folder / "osediff.pkl"


def lpips_files(folder):
    """Random weights in the layout of LPIPS with VGG16, as the section of a config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.ModuleDict({"features": vgg.features()})
    lins = {
        f"lin{n}.model.1.weight": torch.full((1, stage[-1], 1, 1), 1 / stage[-1])
        for n, stage in enumerate(vgg.STAGES)
    }
    for name, tensors in (("vgg", network.state_dict()), ("lin", lins)):
        torch.save(tensors, folder / f"{name}.pth")
    return {name: str(folder / f"{name}.pth") for name in ("vgg", "lin")}
