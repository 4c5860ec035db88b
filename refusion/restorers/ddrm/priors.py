"""Unconditional diffusion models from files: what photos look like, for DDRM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusion.checkpoint import Model, build_model, find_weights, read_checkpoint
from refusion.devices.precision import PRECISIONS, cast_network, choose_device, choose_precision
from refusion.errors import CheckpointError
from refusion.nets.layers import pad_to_multiple
from refusion.sde import VPSDE, build_sde
from refusion.stable_diffusion.libraries import import_library, read_json
from refusion.stable_diffusion.schedule import schedule_of

INSTALL = "pip install 'refusion[diffusers]'"
SHIPPED = "ddrm_prior"  # task, and file name, of the prior in the package


@dataclass(frozen=True)
class Prior:
    """A network that estimates noise, and the process it was trained on.

    Attributes:
        predict_noise: `(xt, t) -> noise`, float32 (B, 3, H, W) of any size in [-1, 1] units, on
            `device`, t in 1..T.
        alpha_bar: of the process, float64 (T + 1,), from 1 at t = 0.
        side: of the pictures it was trained on, in pixels; None if not known.
        steps: default number of network evaluations.
        device: where it runs.
        precision: number format of the network.
    """

    predict_noise: Callable[[Tensor, int], Tensor]
    alpha_bar: Tensor
    side: int | None
    steps: int
    device: torch.device
    precision: str


def find_prior(source: str | Path | None = None) -> Path:
    """Find a prior: an existing folder or weights file, or, of None, the one that ships.

    Raises:
        CheckpointError: there is no such file or folder, or none ships with this installation.
    """
    if source is not None:
        return Path(source) if Path(source).is_dir() else find_weights(source)
    try:
        return find_weights(SHIPPED)
    except CheckpointError:
        raise CheckpointError(
            "DDRM needs a prior and this installation ships none; train one (python train.py -opt "
            "options/ddrm_prior.yml) or take the folder of a diffusers DDPM, and give it as "
            "--weights"
        ) from None


def load_prior(
    source: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Prior:
    """Make a prior of a file or folder; nothing is downloaded.

    Args:
        source: a .safetensors checkpoint (trained by stage `prior`, or imported), or the folder of
            a diffusers `DDPMPipeline` or of a `UNet2DModel` alone; None for the one that ships.
        device: 'auto', 'cpu' or 'cuda'.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: there is none, it is no prior, or a folder needs diffusers, which is
            missing.
        ConfigError: device or precision unknown or not to be had.
    """
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    path = find_prior(source)
    if path.is_dir():
        return _of_folder(path, where, dtype)
    checkpoint = read_checkpoint(path)
    if not is_prior(checkpoint.model.sde):
        raise CheckpointError(
            f"{checkpoint.path}: a '{checkpoint.model.task}' model, no prior; DDRM needs an "
            "unconditional model, as options/ddrm_prior.yml trains"
        )
    return prior_of(build_model(checkpoint), where, dtype)


def is_prior(sde: Any) -> bool:
    """Tell the process of a prior, a component of a config or None, from those of restorers."""
    return sde is not None and sde.type == VPSDE.__name__


def prior_of(model: Model, device: torch.device, dtype: torch.dtype) -> Prior:
    """Make a prior of a checkpoint's networks, which are copied."""
    network = cast_network(model.network, device, dtype)
    sde = build_sde({"type": model.config.sde.type, **model.config.sde.settings})

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        seen = xt.to(dtype)
        return network(seen, seen, t).to(xt.dtype)

    side = getattr(network, "image_size", None)
    steps = model.config.sampling.steps
    return Prior(predict_noise, sde.alpha_bar, side, steps, device, _word(dtype))


def _of_folder(folder: Path, device: torch.device, dtype: torch.dtype) -> Prior:
    """A prior in the layout of diffusers, which is imported only here."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    if read_json(unet / "config.json").get("_class_name") != "UNet2DModel":
        raise CheckpointError(
            f"{folder}: expected the folder of a diffusers DDPMPipeline or UNet2DModel (with "
            "unet/config.json or config.json that names UNet2DModel)"
        )
    alpha_bar = alpha_bar_of_scheduler(folder / "scheduler" / "scheduler_config.json")
    network = _unet_of(unet)
    network = network.eval().requires_grad_(False).to(device, dtype)
    multiple = 2 ** (len(network.config.block_out_channels) - 1)

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        height, width = xt.shape[-2:]
        seen = pad_to_multiple(xt.to(dtype), multiple, "reflect")
        noise = network(seen, t - 1).sample  # diffusers counts its steps from 0
        return noise[:, :3, :height, :width].to(xt.dtype)

    side = network.config.sample_size
    side = side if type(side) is int and side > 0 else None
    return Prior(predict_noise, alpha_bar, side, 20, device, _word(dtype))


def _unet_of(folder: Path) -> Any:
    """A `UNet2DModel` of diffusers, unconditional and of colour pictures."""
    model_class = import_library("diffusers", folder, INSTALL).UNet2DModel
    try:
        network = model_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # a wrong config makes its constructors stumble over anything
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: cannot be loaded ({reason})") from None
    config = network.config
    has_classes = config.num_class_embeds is not None or config.class_embed_type is not None
    if config.in_channels != 3 or config.out_channels < 3 or has_classes:
        raise CheckpointError(f"{folder}: expected an unconditional model of 3 channels")
    return network


def alpha_bar_of_scheduler(path: Path) -> Tensor:
    """Share of signal at t = 0..T of a diffusers scheduler, float64 (T + 1,).

    A folder without a scheduler gets the defaults of DDPM.

    Raises:
        CheckpointError: the file cannot be read, or names what is not known here.
    """
    schedule = schedule_of(read_json(path), path)
    if schedule.prediction != "epsilon":
        raise CheckpointError(
            f"{path}: prediction_type '{schedule.prediction}'; only 'epsilon' can be used"
        )
    return torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar])


def _word(dtype: torch.dtype) -> str:
    return next(name for name, known in PRECISIONS.items() if known == dtype)
