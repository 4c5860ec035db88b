"""Published weights as a checkpoint of this project, complete with the config that runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from refusion.checkpoint import Checkpoint, read_checkpoint
from refusion.config import ModelConfig, model_config_from_dict
from refusion.config.official.model import PUBLISHED_SCALE, official_model, upscale_of
from refusion.config.parser import Component
from refusion.config.regression import is_regressor
from refusion.errors import CheckpointError, ConfigError
from refusion.official.detect import detect_latent_unet, detect_network, part_of
from refusion.official.pairing import check_described, check_pair
from refusion.official.weights import read_official

_SUFFIXES = (".pth", ".pt", ".ckpt")
# Published for the NAFNets; the IR-SDE U-Nets have 10 or 30 by task, which nothing in them tells.
_SDE = {"type": "IRSDE", "max_sigma": 50, "T": 100, "schedule": "cosine", "eps": 0.005}
_DENOISING = {"type": "DenoisingSDE", "max_sigma": 70, "T": 1000, "schedule": "cosine", "eps": 0.04}
_PAIRS = {8: "dehaze", 4: "bokeh"}  # channels of the published latents


@dataclass(frozen=True)
class OfficialFiles:
    """Files of one published model.

    Attributes:
        network: weights of the noise network; None for a latent U-Net alone.
        latent_unet: weights of the latent U-Net; None for a model on pixels.
        options: content of the option file (training or testing), where there is one.
        source: path of the option file.
    """

    network: Path | None = None
    latent_unet: Path | None = None
    options: Mapping[str, Any] | None = None
    source: str = ""


@dataclass(frozen=True)
class ImportChoices:
    """What the user decides; None takes the option file's word, else the published default.

    Attributes:
        task: our word for the task.
        wiring: `pixel` or `latent`, of `ConditionalNAFNet`.
        max_sigma: noise level in 8-bit levels.
        T: number of time steps of the process.
        upscale: interpolation of super-resolution, `nearest` or `bicubic`.
        trust_weights: where the sizes in the option file differ from the weights, follow these.
    """

    task: str | None = None
    wiring: str | None = None
    max_sigma: float | None = None
    T: int | None = None
    upscale: str | None = None
    trust_weights: bool = False


def import_official(files: OfficialFiles, choices: ImportChoices | None = None) -> Checkpoint:
    """Read published files into a checkpoint, which `save_checkpoint` can write.

    Args:
        files: one model's.
        choices: None takes all defaults.

    Raises:
        CheckpointError: a file cannot be read or is of no published network, the two networks
            do not belong together, or the option file describes others.
        ConfigError: the option file is wrong, or something must be said that no file says.
    """
    choices = choices or ImportChoices()
    parts, tensors = _read(files)
    if is_regressor(parts.get("network")):
        _check_no_process(files, choices)
        model = {"task": choices.task or "blind"}
    elif files.options is None:
        check_pair(parts, files.network, files.latent_unet)
        model = _published(parts, choices)
    else:
        check_pair(parts, files.network, files.latent_unet)
        model = official_model(files.options, files.source)
        check_described(parts, model, files.source, trust_sizes=choices.trust_weights)
    model |= {part: _plain(component) for part, component in parts.items()}
    _decide(model, parts, choices)
    source = str(files.network or files.latent_unet)
    config = model_config_from_dict(model, source)
    return Checkpoint(config, tensors, {"source": _origin(files)}, Path(source))


def open_latent(path: str | Path) -> Checkpoint:
    """Read a latent U-Net: a checkpoint of this project, or published weights (.pth).

    Raises:
        CheckpointError: the file cannot be read, or a .pth file is no latent U-Net.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        return read_checkpoint(path)
    state = read_official(path)
    component = detect_latent_unet(state, path)
    task = _PAIRS.get(component.settings["embed_dim"], "latent")
    tensors = {f"latent_unet.{name}": tensor for name, tensor in state.items()}
    return Checkpoint(ModelConfig(task=task, latent_unet=component), tensors, {}, path)


def open_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors `network.*` and `latent_unet.*` of a checkpoint or of a .pth file.

    Raises:
        CheckpointError: the file cannot be read, or a .pth file is of no published network.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        return read_checkpoint(path).tensors
    state = read_official(path)
    part = part_of(state, path)
    return {f"{part}.{name}": tensor for name, tensor in state.items()}


def _read(files: OfficialFiles) -> tuple[dict[str, Component], dict[str, Tensor]]:
    """Detected parts, and the tensors of all under their names in a checkpoint."""
    detect = {"network": detect_network, "latent_unet": detect_latent_unet}
    paths = {"network": files.network, "latent_unet": files.latent_unet}
    parts: dict[str, Component] = {}
    tensors: dict[str, Tensor] = {}
    for part, path in paths.items():
        if path is None:
            continue
        state = read_official(path)
        parts[part] = detect[part](state, path)
        tensors |= {f"{part}.{name}": tensor for name, tensor in state.items()}
    if not parts:
        raise CheckpointError("nothing to import: give the weights of a network (.pth)")
    return parts, tensors


def _published(parts: Mapping[str, Component], choices: ImportChoices) -> dict[str, Any]:
    """The config of the release for what was detected, without an option file."""
    task = choices.task or _task(parts)
    if "network" not in parts:
        return {"task": task}
    network = parts["network"]
    noisy = not network.settings["conditional"]
    sde = dict(_DENOISING if noisy else _SDE)
    if network.type == "ConditionalUNet":
        _need(choices, "max_sigma", "IR-SDE weights were trained with 10, 30 or 70 by task")
        if noisy:
            _need(choices, "T", "denoising weights were trained with 100 or 1000")
    model = {"task": task, "sde": sde, "prediction": "noise"}
    model["sampling"] = {"sampler": "ode" if noisy else "euler", "steps": sde["T"]}
    return model


def _check_no_process(files: OfficialFiles, choices: ImportChoices) -> None:
    """Refuse what a network that restores at once has no use for."""
    said = {name: getattr(choices, name) for name in ("wiring", "max_sigma", "T", "upscale")}
    said = {"latent": files.latent_unet, "options": files.options, **said}
    for name, value in said.items():
        if value is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')}: the weights are of a network that restores without "
                "a process; leave it out"
            )


def _task(parts: Mapping[str, Component]) -> str:
    """The task, where the parts tell it."""
    seen = parts["network"].settings if "network" in parts else {}
    telling = {"bokeh": seen.get("lens"), "stereo_sr": seen.get("stereo")}
    telling["denoise"] = seen.get("conditional") is False
    if "latent_unet" in parts:
        latent = _PAIRS.get(parts["latent_unet"].settings["embed_dim"])
        telling |= {latent: True} if latent else {}
    found = [task for task, is_it in telling.items() if is_it]
    if not found:
        raise ConfigError(
            "--task: the weights do not tell it; give the option file (--options), or e.g. "
            "--task derain"
        )
    return found[0]


def _need(choices: ImportChoices, name: str, reason: str) -> None:
    if getattr(choices, name) is None:
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(
            f"{option}: nothing in the weights tells it, and {reason}; give the option file they "
            f"were trained with (--options) or {option} N"
        )


def _decide(model: dict[str, Any], parts: Mapping[str, Component], choices: ImportChoices) -> None:
    """Put the user's choices, and what only the authors know, into the model."""
    model["task"] = choices.task or model["task"]
    if "network" not in parts:
        return
    if "sde" not in model:  # a network that restores at once
        return
    network, sde = model["network"], model["sde"]
    if network["type"] == "ConditionalNAFNet":
        # Same tensors, two graphs; of the latent networks only that for bokeh has the pixel one.
        latent = "latent_unet" in parts and not network["lens"]
        network["wiring"] = choices.wiring or ("latent" if latent else "pixel")
    elif choices.wiring:
        raise ConfigError(f"--wiring: a {network['type']} has only one")
    if choices.max_sigma is not None:
        sde["max_sigma"] = choices.max_sigma
    if choices.T is not None:
        sde["T"] = model["sampling"]["steps"] = choices.T
    if "upscale" in model or model["task"] in ("sr", "stereo_sr"):
        factor = model.get("upscale", {}).get("factor", PUBLISHED_SCALE)
        released = upscale_of(network["type"], factor, released=True)
        model["upscale"] = released | ({"mode": choices.upscale} if choices.upscale else {})


def _plain(component: Component) -> dict[str, Any]:
    return {"type": component.type, **component.settings}


def _origin(files: OfficialFiles) -> dict[str, Any]:
    """Names and digests of the files, to keep with the weights."""
    paths = {"network": files.network, "latent_unet": files.latent_unet}
    read = {part: path for part, path in paths.items() if path is not None}
    found: dict[str, Any] = {
        part: {"file": path.name, "sha256": _sha256(path)} for part, path in read.items()
    }
    return found | ({"options": Path(files.source).name} if files.options is not None else {})


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
