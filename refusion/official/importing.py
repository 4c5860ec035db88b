"""Conversion of published weights to a checkpoint of this project, with a complete config."""

from __future__ import annotations

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
from refusion.files import sha256_of
from refusion.official.detect import detect_latent_unet, detect_network, part_of
from refusion.official.pairing import check_described, check_pair
from refusion.official.weights import read_official

_SUFFIXES = (".pth", ".pt", ".ckpt")
# Published settings of the NAFNets. The IR-SDE U-Nets use max_sigma 10 or 30, depending on the
# task; the weights do not contain this number.
_SDE = {"type": "IRSDE", "max_sigma": 50, "T": 100, "schedule": "cosine", "eps": 0.005}
_DENOISING = {"type": "DenoisingSDE", "max_sigma": 70, "T": 1000, "schedule": "cosine", "eps": 0.04}
_TASK_BY_LATENT = {8: "dehaze", 4: "bokeh"}  # by channels of the published latents


@dataclass(frozen=True)
class OfficialFiles:
    """Files of one published model.

    Attributes:
        network: weights of the noise network; None if the model is only a latent U-Net.
        latent_unet: weights of the latent U-Net; None for a model on pixels.
        options: content of the option file (training or testing); None without a file.
        source: path of the option file, for messages; empty without a file.
    """

    network: Path | None = None
    latent_unet: Path | None = None
    options: Mapping[str, Any] | None = None
    source: str = ""


@dataclass(frozen=True)
class ImportChoices:
    """Choices of the user; None takes the value of the option file, else the published default.

    Attributes:
        task: name of the task in this project.
        wiring: `pixel` or `latent`, the wiring of `ConditionalNAFNet`.
        max_sigma: largest noise level of the process in 8-bit levels, 1..255.
        T: number of time steps of the process.
        upscale: interpolation of super-resolution, `nearest` or `bicubic`.
        trust_weights: use the sizes of the weights if those in the option file differ.
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
        files: the files of one model.
        choices: None takes all defaults.

    Returns:
        A checkpoint with the config and the tensors `network.*` and `latent_unet.*`.

    Raises:
        CheckpointError: a file cannot be read or belongs to no published network, the two
            networks do not fit each other, or the option file describes other networks.
        ConfigError: the option file is wrong, or neither the files nor `choices` give a value
            that the config needs.
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
    _apply_choices(model, parts, choices)
    source = str(files.network or files.latent_unet)
    config = model_config_from_dict(model, source)
    return Checkpoint(config, tensors, {"source": _origin(files)}, Path(source))


def open_latent(path: str | Path) -> Checkpoint:
    """Read the checkpoint of a latent U-Net.

    Args:
        path: checkpoint of this project, or published weights (.pth, .pt, .ckpt).

    Raises:
        CheckpointError: the file cannot be read, or published weights are not a latent U-Net.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        return read_checkpoint(path)
    state = read_official(path)
    component = detect_latent_unet(state, path)
    task = _TASK_BY_LATENT.get(component.settings["embed_dim"], "latent")
    tensors = {f"latent_unet.{name}": tensor for name, tensor in state.items()}
    return Checkpoint(ModelConfig(task=task, latent_unet=component), tensors, {}, path)


def open_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors `network.*` and `latent_unet.*`.

    Args:
        path: checkpoint of this project, or published weights (.pth, .pt, .ckpt).

    Raises:
        CheckpointError: the file cannot be read, or published weights belong to no known network.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        return read_checkpoint(path).tensors
    state = read_official(path)
    part = part_of(state, path)
    return {f"{part}.{name}": tensor for name, tensor in state.items()}


def _read(files: OfficialFiles) -> tuple[dict[str, Component], dict[str, Tensor]]:
    """Detected components, and all tensors by their names in a checkpoint."""
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
    """Config for the detected components from published defaults, without an option file."""
    task = choices.task or _task(parts)
    if "network" not in parts:
        return {"task": task}
    network = parts["network"]
    noisy = not network.settings["conditional"]
    sde = dict(_DENOISING if noisy else _SDE)
    if network.type == "ConditionalUNet":
        _need(choices, "max_sigma", "IR-SDE weights were trained with 10, 30 or 70")
        if noisy:
            _need(choices, "T", "denoising weights were trained with 100 or 1000")
    model = {"task": task, "sde": sde, "prediction": "noise"}
    model["sampling"] = {"sampler": "ode" if noisy else "euler", "steps": sde["T"]}
    return model


def _check_no_process(files: OfficialFiles, choices: ImportChoices) -> None:
    """Refuse options of a diffusion process; a regression network restores in one pass."""
    given = {name: getattr(choices, name) for name in ("wiring", "max_sigma", "T", "upscale")}
    given = {"latent": files.latent_unet, "options": files.options, **given}
    for name, value in given.items():
        if value is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')}: the weights are of a network that restores without "
                "a diffusion process; leave the option out"
            )


def _task(parts: Mapping[str, Component]) -> str:
    """The task of the detected components.

    Raises:
        ConfigError: networks of several tasks have these components.
    """
    settings = parts["network"].settings if "network" in parts else {}
    is_task = {"bokeh": settings.get("lens"), "stereo_sr": settings.get("stereo")}
    is_task["denoise"] = settings.get("conditional") is False
    if "latent_unet" in parts:
        latent = _TASK_BY_LATENT.get(parts["latent_unet"].settings["embed_dim"])
        is_task |= {latent: True} if latent else {}
    found = [task for task, matches in is_task.items() if matches]
    if not found:
        raise ConfigError(
            "--task: missing; the weights do not contain the task; give the option file "
            "(--options), or for example --task derain"
        )
    return found[0]


def _need(choices: ImportChoices, name: str, reason: str) -> None:
    """Raise a ConfigError if the user did not choose the value `name`."""
    if getattr(choices, name) is None:
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(
            f"{option}: missing; the weights do not contain the value, and {reason}; give the "
            f"option file of the weights (--options) or {option} N"
        )


def _apply_choices(
    model: dict[str, Any], parts: Mapping[str, Component], choices: ImportChoices
) -> None:
    """Write the user's choices, and published settings that no file contains, into the model."""
    model["task"] = choices.task or model["task"]
    if "network" not in parts:
        return
    if "sde" not in model:  # a regression network
        return
    network, sde = model["network"], model["sde"]
    if network["type"] == "ConditionalNAFNet":
        # Both wirings have the same tensors. The latent networks have the wiring `latent`, except
        # the one for bokeh.
        latent = "latent_unet" in parts and not network["lens"]
        network["wiring"] = choices.wiring or ("latent" if latent else "pixel")
    elif choices.wiring:
        raise ConfigError(
            f"--wiring: a {network['type']} has only one wiring; leave the option out"
        )
    if choices.max_sigma is not None:
        sde["max_sigma"] = choices.max_sigma
    if choices.T is not None:
        sde["T"] = model["sampling"]["steps"] = choices.T
    if "upscale" in model or model["task"] in ("sr", "stereo_sr"):
        factor = model.get("upscale", {}).get("factor", PUBLISHED_SCALE)
        released = upscale_of(network["type"], factor, released=True)
        model["upscale"] = released | ({"mode": choices.upscale} if choices.upscale else {})


def _plain(component: Component) -> dict[str, Any]:
    """A component as a mapping, as in an experiment file."""
    return {"type": component.type, **component.settings}


def _origin(files: OfficialFiles) -> dict[str, Any]:
    """Names and SHA-256 digests of the files, for the checkpoint's metadata."""
    paths = {"network": files.network, "latent_unet": files.latent_unet}
    read = {part: path for part, path in paths.items() if path is not None}
    found: dict[str, Any] = {
        part: {"file": path.name, "sha256": sha256_of(path)} for part, path in read.items()
    }
    return found | ({"options": Path(files.source).name} if files.options is not None else {})
