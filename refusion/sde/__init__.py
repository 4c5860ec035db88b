"""Mathematics of mean-reverting diffusion: schedules, SDEs, grids, samplers, noise, objectives.

The package imports PyTorch and `refusion.errors` only; every package above may import the names
of `__all__` from here. A new process is one file and one entry in `SDES`; a new schedule, grid,
prediction or objective is one function and one entry in its table; a new sampler is one step
function and one entry in `SAMPLERS`. All equations are in docs/math.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from refusion.arguments import check_arguments
from refusion.errors import ConfigError, suggest
from refusion.sde.bridges import GOUB, UniDB
from refusion.sde.denoising_sde import DenoisingSDE
from refusion.sde.grids import GRIDS, time_grid
from refusion.sde.irsde import IRSDE
from refusion.sde.noise import NoiseSource, RecordedNoise, SeededNoise
from refusion.sde.objectives import OBJECTIVES
from refusion.sde.prediction import PREDICTIONS, Estimate, estimate
from refusion.sde.sampler_table import SAMPLERS, find_sampler
from refusion.sde.samplers import Sampler, SolverState
from refusion.sde.schedules import THETA_SCHEDULES
from refusion.sde.vp import VPSDE

SDES = {sde.__name__: sde for sde in (IRSDE, DenoisingSDE, GOUB, UniDB, VPSDE)}

__all__ = [
    "GOUB",
    "GRIDS",
    "IRSDE",
    "OBJECTIVES",
    "PREDICTIONS",
    "SAMPLERS",
    "SDES",
    "THETA_SCHEDULES",
    "VPSDE",
    "DenoisingSDE",
    "Estimate",
    "NoiseSource",
    "RecordedNoise",
    "Sampler",
    "SeededNoise",
    "SolverState",
    "UniDB",
    "build_sde",
    "estimate",
    "find_sampler",
    "time_grid",
]


def build_sde(section: Mapping[str, Any]) -> IRSDE | VPSDE:
    """Build the SDE of a config section, where `max_sigma` is in 8-bit levels.

    Args:
        section: `type`, a key of `SDES`, and the arguments of its constructor.

    Raises:
        ConfigError: unknown type or key, or a value out of range.

    >>> build_sde({"type": "IRSDE", "max_sigma": 51, "T": 50}).lam
    0.2
    """
    check_arguments(build_sde, locals())
    settings = dict(section)
    name = settings.pop("type", None)
    if name not in SDES:
        raise ConfigError(f"sde.type: unknown SDE {name!r}{suggest(name, SDES)}")
    build = SDES[name]
    known = inspect.signature(build).parameters
    for key in settings:
        if key not in known:
            raise ConfigError(f"sde.{key}: unknown key{suggest(key, known)}")
    if "max_sigma" in known and "max_sigma" not in settings:
        raise ConfigError("sde.max_sigma: missing; expected 8-bit levels, such as 50")
    return build(**settings)
