"""Methods of restoring photos, all behind one contract; `load_restorer` makes one from a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch

from refusion.checkpoint import Checkpoint, Model, build_model, find_weights, read_checkpoint
from refusion.config.plugins import import_plugins
from refusion.devices.precision import choose_device, choose_precision
from refusion.errors import ConfigError, suggest
from refusion.restorers.array_restorer import ArrayRestorer
from refusion.restorers.base import Conditions, Progress, Restorer, RestorerInfo
from refusion.restorers.ddrm.priors import find_prior, is_prior, load_prior, prior_of
from refusion.restorers.ddrm.problems import denoise
from refusion.restorers.ddrm.restorer import DDRM
from refusion.restorers.diffbir import DiffBIR
from refusion.restorers.osediff.restorer import OSEDiff, load_osediff
from refusion.restorers.refusion.restorer import Refusion
from refusion.restorers.regression import Regression

__all__ = [
    "DDRM",
    "RESTORERS",
    "ArrayRestorer",
    "Conditions",
    "DiffBIR",
    "OSEDiff",
    "Progress",
    "Refusion",
    "Regression",
    "Restorer",
    "RestorerInfo",
    "find_prior",
    "load_osediff",
    "load_prior",
    "load_restorer",
]

logger = logging.getLogger(__name__)

RESTORERS = {
    "Refusion": Refusion,
    "DDRM": DDRM,
    "DiffBIR": DiffBIR,
    "OSEDiff": OSEDiff,
    "Regression": Regression,
}


def load_restorer(
    source: str | Path | Checkpoint,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
    memory: int | None = None,
    plugins: Iterable[str] = (),
) -> ArrayRestorer:
    """Make the restorer that a weights file describes; of a prior alone, one that denoises.

    The result is a `Restorer` for batches of tensors, and can be called with one image (NumPy,
    torch or Pillow): see `ArrayRestorer.__call__`. Logs a warning for a latent U-Net alone.

    Args:
        source: 'dehaze' or another task with shipped weights, a .safetensors file, or the content
            of one.
        device: 'auto' (CUDA if there is one), 'cpu' or 'cuda'.
        precision: 'auto' (bf16 where the hardware is fast at it), 'fp32', 'bf16' or 'fp16'.
        memory: bytes that the process may take, see `Refusion`; None for no limit of that kind.
        plugins: modules that define networks or other components of the file, to be imported
            first; see docs/extending.md. A module that only the file names is not imported.

    Raises:
        CheckpointError: there are no such weights or they cannot be used.
        ConfigError: device or precision unknown or not to be had, or no such plug-in.

    >>> restorer = load_restorer("dehaze", device="cpu")
    >>> restorer.info.task, restorer.info.sampler, restorer.info.steps
    ('dehaze', 'posterior', 1)
    >>> restorer(torch.full((3, 20, 30), 0.7)).shape
    torch.Size([3, 20, 30])
    """
    import_plugins(plugins)
    is_read = isinstance(source, Checkpoint)
    checkpoint = source if is_read else read_checkpoint(find_weights(source))
    model = build_model(checkpoint)
    if model.network is None:
        logger.warning(
            "%s: a latent U-Net alone, which reconstructs photos as they are", checkpoint.path
        )
    family = _family(model)

    def load(device: str | torch.device, precision: str) -> Restorer:
        if family == "DDRM":
            where = choose_device(device)
            prior = prior_of(model, where, choose_precision(precision, where))
            return DDRM(prior, denoise(model.config.task))
        return RESTORERS[family](model, device=device, precision=precision, memory=memory)

    return ArrayRestorer(load, device, precision)


def _family(model: Model) -> str:
    """Key of `RESTORERS` for a model: its network's class may name one, attribute `restorer`.

    Raises:
        ConfigError: the network's class names an unknown one.
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
