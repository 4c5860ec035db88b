"""Loads the restorer that weights describe: a table of the methods, and the choice among them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from refusion.arguments import is_between
from refusion.checkpoint import (
    Checkpoint,
    Model,
    build_model,
    read_checkpoint,
    save_folder,
    stored_tensors,
)
from refusion.config.plugins import import_plugins
from refusion.devices.precision import choose_device, choose_precision
from refusion.errors import ConfigError, short, suggest
from refusion.restorers.base import Restorer
from refusion.restorers.bokeh_renderer import BokehRenderer
from refusion.restorers.colour_attenuation import ColourAttenuation
from refusion.restorers.dark_channel import DarkChannel
from refusion.restorers.ddrm.priors import build_prior, is_prior
from refusion.restorers.ddrm.problems import denoise
from refusion.restorers.ddrm.restorer import DDRM
from refusion.restorers.diffbir import DiffBIR
from refusion.restorers.osediff.restorer import OSEDiff
from refusion.restorers.refusion.restorer import Refusion
from refusion.restorers.regression import Regression
from refusion.weights import find_weights

logger = logging.getLogger(__name__)

RESTORERS = {
    "Refusion": Refusion,
    "DDRM": DDRM,
    "DiffBIR": DiffBIR,
    "OSEDiff": OSEDiff,
    "Regression": Regression,
    "DarkChannel": DarkChannel,
    "ColourAttenuation": ColourAttenuation,
    "BokehRenderer": BokehRenderer,
}
"""Restorer classes by the name in `RestorerInfo.family`. `load_restorer` calls a class that a
network names as `(model, *, device, precision, memory)`; see docs/extending.md."""


Loader = Callable[[str | torch.device, str], Restorer]
"""`(device, precision) -> restorer`: loads the same model."""


@dataclass(frozen=True)
class Weights:
    """Weights that were read, as functions.

    Attributes:
        load: makes the restorer on a device.
        save: writes the weights as a folder, see `save_folder`.
    """

    load: Loader
    save: Callable[[str | Path], None]


def open_weights(
    source: str | Path | Checkpoint, memory: int | None = None, plugins: Iterable[str] = ()
) -> Weights:
    """Read weights and build their networks; the arguments and errors are those of `load_restorer`.

    Args:
        source: a task, a file, a folder or the content of a file.
        memory: maximum number of bytes of the whole process; None for no limit.
        plugins: modules that are imported first.
    """
    if memory is not None and not is_between(memory, 1, math.inf):
        raise ConfigError(f"memory: expected bytes from 1, or None, got {short(memory)}")
    import_plugins(plugins)
    is_read = isinstance(source, Checkpoint)
    checkpoint = source if is_read else read_checkpoint(find_weights(source))
    model = build_model(checkpoint)
    if model.network is None:
        logger.warning(
            "%s: a latent U-Net alone, which encodes and decodes photos without restoring them",
            checkpoint.path,
        )
    family = _family(model)
    dtypes = {name: tensor.dtype for name, tensor in checkpoint.tensors.items()}
    head = replace(checkpoint, tensors={})  # the networks hold the tensors already

    def load(device: str | torch.device, precision: str) -> Restorer:
        if family == "DDRM":
            where = choose_device(device)
            prior = build_prior(model, where, choose_precision(precision, where))
            return DDRM(prior, denoise(model.config.task))
        return RESTORERS[family](model, device=device, precision=precision, memory=memory)

    def save(folder: str | Path) -> None:
        save_folder(folder, replace(head, tensors=stored_tensors(model, dtypes)))

    return Weights(load, save)


def _family(model: Model) -> str:
    """Key of `RESTORERS` for a model.

    The class of the network may name it with the attribute `restorer`. Otherwise it depends on the
    process, and on the attribute `is_regression`.

    Raises:
        ConfigError: `restorer` is not a key of `RESTORERS`.
    """
    network = model.network
    if is_prior(model.config.sde):
        return "DDRM"
    default = "Regression" if getattr(network, "is_regression", False) else "Refusion"
    family = getattr(network, "restorer", default)
    if family not in RESTORERS:
        raise ConfigError(
            f"{type(network).__name__}.restorer: unknown restorer {family!r}"
            f"{suggest(str(family), RESTORERS)}"
        )
    return family
