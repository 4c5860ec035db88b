"""Translation of the model of an official option file to the option files of this package.

Some choices of the official code are not in its YAML files and are made here: the network for
Gaussian noise has only the state as input, stereo and bokeh networks are detected by the mode of
the dataset, and the sampler is the reverse SDE (`euler`), or the reverse ODE for Gaussian noise,
unless `sde.sampling_mode` is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from refusion.config.official.section import Section
from refusion.config.scalars import short, suggested

_TASKS = {  # folders of the release, and values of `distortion`
    "deblurring": "deblur",
    "deblur": "deblur",
    "deraining": "derain",
    "derain": "derain",
    "deshadow": "deshadow",
    "inpainting": "inpaint",
    "sisr": "sr",
    "sr": "sr",
    "stereo-sr": "stereo_sr",
    "denoising-sde": "denoise",
    "dehazing": "dehaze",
    "bokeh": "bokeh",
}
_SAMPLERS = {"sde": "euler", "ode": "ode", "posterior": "posterior"}
_NETS = {"ConditionalNAFNet": "ConditionalNAFNet", "ConditionalUNet": "ConditionalUNet"}
_LATENT_NETS = {"UNet": "LatentUNet"}
_SETTINGS = {
    "ConditionalNAFNet": ("img_channel", "width", "enc_blk_nums", "middle_blk_num", "dec_blk_nums"),
    "ConditionalUNet": ("in_nc", "out_nc", "nf", "depth"),
    "LatentUNet": ("in_ch", "out_ch", "ch", "ch_mult", "embed_dim"),
}
_UNUSED = {"upscale"}  # also accepted and ignored by the official networks
PUBLISHED_SCALE = 4  # factor of all published super-resolution models


def official_model(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Translate the sections that inference needs.

    Args:
        raw: content of the file.
        source: path of the file. The task is taken from its folder first, because `distortion` is
            wrong in several published files.

    Returns:
        Keys of `ModelConfig`: `task`, and those of `latent_unet`, `network`, `sde`, `prediction`,
        `sampling` and `upscale` that the model has.

    Raises:
        ConfigError: a key is missing or its value is not supported.
    """
    file = Section(source, raw)
    task = _task(file)
    if file.get("model") == "latent":
        return {"task": task, "latent_unet": _component(file.section("network_G"), _LATENT_NETS)}
    modes = _modes(file)
    network = _component(file.section("network_G"), _NETS)
    network |= _variant(network["type"], task, modes)
    model: dict[str, Any] = {"task": task, "network": network, "prediction": "noise"}
    if file.get("network_L"):
        model["latent_unet"] = _component(file.section("network_L"), _LATENT_NETS)
        bokeh = network.get("lens", False)  # the only latent network with pixel wiring
        network["wiring"] = "pixel" if bokeh else "latent"
    model["sde"] = sde = _sde(file, task)
    model["sampling"] = _sampling(file, sde)
    if task in ("sr", "stereo_sr"):
        factor = file.section("degradation").whole("scale", PUBLISHED_SCALE)
        model["upscale"] = upscale_of(network["type"], factor)
    return model


def upscale_of(
    network: str, factor: int = PUBLISHED_SCALE, *, released: bool = False
) -> dict[str, Any]:
    """Section `upscale`: how a low-resolution photo is enlarged before the process.

    The official code uses bicubic interpolation, but the released IR-SDE weights (ConditionalUNet)
    need nearest-neighbour interpolation (issue 31 of the official repository).

    Args:
        network: type of the network.
        factor: output pixels per input pixel and axis.
        released: whether the weights are those released by the authors.
    """
    nearest = released and network == "ConditionalUNet"
    return {"factor": factor, "mode": "nearest" if nearest else "bicubic"}


def _task(file: Section) -> str:
    folders = [_TASKS[part] for part in PurePath(file.source).parts[:-1] if part in _TASKS]
    if folders:
        return folders[-1]
    modes = _modes(file)
    if any(mode.startswith("Ste") for mode in modes):
        return "stereo_sr"
    if "mask_root" in file.section("degradation").values:
        return "inpaint"
    name = file.word("distortion", "denoising-sde")  # only this task has no `distortion`
    if modes == {"GT"}:
        return "denoise"
    if name not in _TASKS:
        file.fail("distortion", f"unknown task {short(name)}{suggested(name, _TASKS)}")
    return _TASKS[name]


def _modes(file: Section) -> set[str]:
    datasets = file.section("datasets")
    return {datasets.section(str(name)).word("mode") for name in datasets.values}


def _component(section: Section, known: Mapping[str, str]) -> dict[str, Any]:
    """Translate a network section to `{type, settings}`; the key of the type has two spellings."""
    key = next((k for k in ("which_model_G", "which_model") if section.get(k)), None)
    if key is None:
        section.fail("which_model_G", "missing (or which_model); set it to the name of the network")
    network = section.word(key)
    if network not in known:
        section.fail(key, f"unknown network {short(network)}{suggested(network, known)}")
    setting, names = section.section("setting"), _SETTINGS[known[network]]
    for name in setting.values.keys() - set(names) - _UNUSED:
        setting.warn(name, "ignored; this setting is not supported")
    kept = {name: setting.values[name] for name in names if name in setting.values}
    return {"type": known[network], **kept}


def _variant(network: str, task: str, modes: set[str]) -> dict[str, Any]:
    """Settings that the official code has in one source file per task."""
    if task == "denoise":
        attention = {"mid_attention": "softmax"} if network == "ConditionalUNet" else {}
        return {"conditional": False, **attention}
    if any(mode.startswith("Ste") for mode in modes):
        return {"stereo": True}
    return {"lens": True} if any(mode.startswith("Bokeh") for mode in modes) else {}


def _sde(file: Section, task: str) -> dict[str, Any]:
    sde = file.section("sde")
    common = {"max_sigma": sde.number("max_sigma"), "T": sde.whole("T", 100)}
    if 0 < common["max_sigma"] < 1:
        common["max_sigma"] *= 255  # a value below 1 is relative to full scale in official files
    common["schedule"] = sde.get("schedule", "cosine")
    if task == "denoise":
        return {"type": "DenoisingSDE", **common, "eps": 0.04}  # constant in the official code
    return {"type": "IRSDE", **common, "eps": sde.number("eps", 0.01)}


def _sampling(file: Section, sde: Mapping[str, Any]) -> dict[str, Any]:
    section = file.section("sde")
    mode = section.word("sampling_mode", "ode" if sde["type"] == "DenoisingSDE" else "sde")
    if mode not in _SAMPLERS:
        section.fail("sampling_mode", f"unknown sampler {short(mode)}{suggested(mode, _SAMPLERS)}")
    return {"sampler": _SAMPLERS[mode], "steps": section.whole("sample_T", sde["T"])}
