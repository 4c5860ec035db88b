"""Photo restoration with mean-reverting diffusion (Refusion, CVPR Workshops 2023).

The names below are the public interface. Each is imported on first use, so that `import refusion`
and the help pages of the command line do not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ConditionalNAFNet": "refusion.nets",
    "ConditionalUNet": "refusion.nets",
    "DenoisingSDE": "refusion.sde.denoising_sde",
    "IRSDE": "refusion.sde.irsde",
    "LatentUNet": "refusion.nets",
    "RefusionError": "refusion.errors",
    "evaluate": "refusion.evaluation.scoring",
    "load_config": "refusion.config",
    "load_restorer": "refusion.restorers",
    "read_image": "refusion.images.io",
    "write_image": "refusion.images.io",
}

_MODULES = ("metrics",)

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"refusion.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'refusion' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
