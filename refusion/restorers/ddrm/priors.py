"""Priors of DDRM, loaded from files: unconditional diffusion models and denoising models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refusion.checkpoint import Model, build_model, read_checkpoint
from refusion.config.parser import Component
from refusion.devices.precision import (
    PRECISIONS,
    cast_network,
    choose_device,
    choose_precision,
    precision_name,
)
from refusion.errors import CheckpointError
from refusion.files import as_path
from refusion.nets.layers import pad_to_multiple
from refusion.restorers.ddrm.denoising_prior import LARGEST, is_denoiser, noise_from_denoiser
from refusion.sde import VPSDE, build_sde
from refusion.stable_diffusion.libraries import import_library, read_json
from refusion.stable_diffusion.schedule import schedule_of
from refusion.tensor_files.model_folder import is_model_folder
from refusion.tiling.memory import auto_tile
from refusion.weights import find_weights

INSTALL = "pip install 'diffusers>=0.30'"
SHIPPED = "denoise"  # task and file name of the weights that are the prior of the package
PAPER_STEPS = 20  # default for priors that name no number themselves, the value of the DDRM paper


@dataclass(frozen=True)
class Prior:
    """A network that estimates noise, and the diffusion process that it was trained on.

    Attributes:
        predict_noise: `(xt, t) -> noise`, both float32 (B, 3, H, W) on `device`, of any size, in
            [-1, 1] units; t is in 1..T.
        alpha_bar: abar_t of the process at t = 0..T, float64 (T + 1,); the value at t = 0 is 1.
        side: height and width in pixels of the training images of a network with attention over
            the whole map, which is the side of its tiles; None for other networks.
        steps: default number of network evaluations.
        device: device of the network.
        precision: number format of the network: 'fp32', 'bf16' or 'fp16'.
        network: the network, whose memory decides on the tiles if there is no `side`; None for a
            network that takes any photo at once.
        factor: positions and sides of tiles are multiples of it.
    """

    predict_noise: Callable[[Tensor, int], Tensor]
    alpha_bar: Tensor
    side: int | None
    steps: int
    device: torch.device
    precision: str
    network: nn.Module | None = None
    factor: int = 1

    def tile_for(self, images: Tensor) -> int | None:
        """Side in pixels of the tiles for images (B, 3, H, W); None for no tiles."""
        if self.side is not None or self.network is None:
            return self.side
        return auto_tile(self.network, PRECISIONS[self.precision], images, self.device)


def find_prior(source: str | Path | None = None) -> Path:
    """Path of a prior.

    Args:
        source: an existing folder, a weights file or the task of shipped weights; None for the
            shipped prior.

    Raises:
        CheckpointError: there is no such file or folder, or this installation has no shipped prior.
    """
    if source is not None:
        path = as_path(source, "prior: expected a task, a file or a folder", CheckpointError)
        return path if path.is_dir() else find_weights(source)
    try:
        return find_weights(SHIPPED)
    except CheckpointError:
        raise CheckpointError(
            "DDRM needs a prior, and this installation contains none; train one (python train.py "
            "-opt options/denoise_small.yml) or use the folder of a diffusers DDPM, and give its "
            "path as --weights"
        ) from None


def load_prior(
    source: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Prior:
    """Load a prior from a file or a folder; nothing is downloaded.

    Args:
        source: a .safetensors checkpoint (of a denoising model, trained by stage `prior`, or
            imported) or a folder with one and its config.json, or the folder of a diffusers
            `DDPMPipeline` or of a `UNet2DModel` alone; None for the shipped prior.
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: the file or folder does not exist or is not a prior, or a folder needs
            diffusers and diffusers is not installed.
        ConfigError: device or precision unknown or not available.
    """
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    path = find_prior(source)
    if path.is_dir() and not is_model_folder(path):
        return _load_diffusers_folder(path, where, dtype)
    checkpoint = read_checkpoint(path)
    if is_prior(checkpoint.model.sde):
        return build_prior(build_model(checkpoint), where, dtype)
    if is_denoiser(checkpoint.model):
        return _denoising_prior(build_model(checkpoint), where, dtype)
    raise CheckpointError(
        f"{checkpoint.path}: a '{checkpoint.model.task}' model, not a prior; DDRM needs a "
        "denoising model (task denoise) or an unconditional one, for example one trained with "
        "options/ddrm_prior_nafnet.yml"
    )


def is_prior(sde: Component | None) -> bool:
    """Whether a process in a config is that of a prior, which is a `VPSDE`.

    Args:
        sde: section `sde` of the config; None if the model has no process.
    """
    return sde is not None and sde.type == VPSDE.__name__


def build_prior(model: Model, device: torch.device, dtype: torch.dtype) -> Prior:
    """Build a prior from a copy of the network of a checkpoint.

    Args:
        model: network and config; its process is a `VPSDE`, see `is_prior`.
        device: device of the copy.
        dtype: dtype of the copy's weights.
    """
    network = cast_network(model.network, device, dtype)
    sde = build_sde({"type": model.config.sde.type, **model.config.sde.settings})

    stride = getattr(network, "factor", 1)

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        state = pad_to_multiple(xt.to(dtype), stride, "reflect")
        noise = network(state, state, t)
        return noise[..., : xt.shape[-2], : xt.shape[-1]].to(xt.dtype)

    side = getattr(network, "image_size", None)  # only of networks with attention over the map
    factor = 1 if side is not None else stride
    steps, precision = model.config.sampling.steps, precision_name(dtype)
    return Prior(predict_noise, sde.alpha_bar, side, steps, device, precision, network, factor)


def _denoising_prior(model: Model, device: torch.device, dtype: torch.dtype) -> Prior:
    """Build a prior from a copy of the network of a denoising model; its times are of `VPSDE`."""
    network, alpha_bar = cast_network(model.network, device, dtype), VPSDE().alpha_bar
    predict_noise = noise_from_denoiser(model.config, network, dtype, alpha_bar)
    factor = max(LARGEST, getattr(network, "factor", 1))
    precision = precision_name(dtype)
    return Prior(predict_noise, alpha_bar, None, PAPER_STEPS, device, precision, network, factor)


def _load_diffusers_folder(folder: Path, device: torch.device, dtype: torch.dtype) -> Prior:
    """Load a prior in the layout of diffusers; no other code of this module imports diffusers."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    if read_json(unet / "config.json").get("_class_name") != "UNet2DModel":
        raise CheckpointError(
            f"{folder}: expected the folder of a diffusers DDPMPipeline or UNet2DModel (with "
            "unet/config.json or config.json that names UNet2DModel)"
        )
    alpha_bar = read_alpha_bar(folder / "scheduler" / "scheduler_config.json")
    network = _load_unet(unet)
    network = network.eval().requires_grad_(False).to(device, dtype)
    multiple = 2 ** (len(network.config.block_out_channels) - 1)

    def predict_noise(xt: Tensor, t: int) -> Tensor:
        height, width = xt.shape[-2:]
        padded = pad_to_multiple(xt.to(dtype), multiple, "reflect")
        noise = network(padded, t - 1).sample  # times in diffusers are 0..T-1
        return noise[:, :3, :height, :width].to(xt.dtype)

    side = network.config.sample_size
    side = side if type(side) is int and side > 0 else None
    steps, precision = PAPER_STEPS, precision_name(dtype)
    return Prior(predict_noise, alpha_bar, side, steps, device, precision)


def _load_unet(folder: Path) -> Any:
    """Load an unconditional `UNet2DModel` of diffusers for colour images."""
    model_class = import_library("diffusers", folder, INSTALL).UNet2DModel
    try:
        network = model_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # a wrong config can raise any exception in the constructors
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: cannot be loaded ({reason})") from None
    config = network.config
    has_classes = config.num_class_embeds is not None or config.class_embed_type is not None
    if config.in_channels != 3 or config.out_channels < 3 or has_classes:
        raise CheckpointError(f"{folder}: expected an unconditional model of 3 channels")
    return network


def read_alpha_bar(path: Path) -> Tensor:
    """Read abar_t at t = 0..T from a diffusers `scheduler_config.json`.

    Args:
        path: the file; if it does not exist, the defaults of DDPM are used.

    Returns:
        float64 (T + 1,); the value at t = 0 is 1.

    Raises:
        CheckpointError: the file cannot be read, names an unknown schedule, or its network does
            not predict the noise.
    """
    schedule = schedule_of(read_json(path), path)
    if schedule.prediction != "epsilon":
        raise CheckpointError(
            f"{path}: prediction_type '{schedule.prediction}'; only 'epsilon' can be used"
        )
    return torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar])
