"""Restoration methods with one interface, the protocol `Restorer`; `load_restorer` makes one.

Each method has a module or a package: `refusion` (also IR-SDE), `regression`, `ddrm`, `diffbir`,
`osediff`, `dark_channel`, `colour_attenuation`, `bokeh_renderer`; `base` holds the interface and
`contract` what all methods share.
Commands, batch jobs and evaluation import from here. This package imports the packages below it
(networks, processes, tiling, checkpoints), but not `training`, `batch`, `evaluation` or `cli`.
A new method is a class with the methods of `Restorer`, with an entry in `RESTORERS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from refusion.checkpoint import Checkpoint
from refusion.restorers.array_decomposition import ArrayDecomposition
from refusion.restorers.array_restorer import ArrayRestorer
from refusion.restorers.base import Conditions, HazeOptions, Progress, Restorer, RestorerInfo
from refusion.restorers.bokeh_renderer import BokehRenderer
from refusion.restorers.colour_attenuation import ColourAttenuation
from refusion.restorers.dark_channel import DarkChannel
from refusion.restorers.ddrm.priors import find_prior, load_prior
from refusion.restorers.ddrm.restorer import DDRM
from refusion.restorers.diffbir import DiffBIR
from refusion.restorers.loading import RESTORERS
from refusion.restorers.osediff.restorer import OSEDiff, load_osediff
from refusion.restorers.refusion.restorer import Refusion
from refusion.restorers.regression import Regression

__all__ = [
    "DDRM",
    "RESTORERS",
    "ArrayDecomposition",
    "ArrayRestorer",
    "BokehRenderer",
    "ColourAttenuation",
    "Conditions",
    "DarkChannel",
    "DiffBIR",
    "HazeOptions",
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


def load_restorer(
    source: str | Path | Checkpoint,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
    memory: int | None = None,
    plugins: Iterable[str] = (),
) -> ArrayRestorer:
    """Make the restorer that a weights file describes.

    The result is a `Restorer` for batches of tensors, and can be called with one image (NumPy,
    torch or Pillow): see `ArrayRestorer.__call__`. For a prior, the result is `DDRM` for denoising.
    If the file contains only a latent U-Net, a warning is logged.

    Args:
        source: 'dehaze' or another task with shipped weights, a .safetensors file, a folder with
            `config.json` and `model.safetensors` as the Hugging Face Hub has them, or the content
            of a file as `read_checkpoint` returns it.
        device: 'auto' (CUDA if there is a GPU, otherwise the CPU), 'cpu', 'cuda' or a
            `torch.device`.
        precision: 'auto' (bf16 where the hardware supports its multiplication, otherwise fp32),
            'fp32', 'bf16' or 'fp16'.
        memory: maximum number of bytes of the whole process, see `Refusion`; None for no limit.
        plugins: modules that define networks or other components of the file; they are imported
            first, see docs/extending.md. Modules that only the file names are not imported.

    Raises:
        CheckpointError: the weights do not exist or cannot be used.
        ConfigError: device or precision unknown or not available, `plugins` is a text, or a
            plug-in cannot be imported.

    >>> restorer = load_restorer("dehaze", device="cpu")
    >>> restorer.info.task, restorer.info.sampler, restorer.info.steps
    ('dehaze', 'posterior', 1)
    >>> restorer(torch.full((3, 20, 30), 0.7)).shape
    torch.Size([3, 20, 30])
    """
    return ArrayRestorer.from_pretrained(
        source, device=device, precision=precision, memory=memory, plugins=plugins
    )
