"""What an ONNX file says about itself: the model, and how a runtime restores photos with it."""

from __future__ import annotations

import json
from typing import Any

import torch

from refusion import __version__
from refusion.checkpoint import Checkpoint, Model
from refusion.config import config_to_dict
from refusion.export.graphs import Graph
from refusion.export.tables import as_json, noise_limits, step_table, table_for_starts
from refusion.files import sha256_of
from refusion.images import noise_level
from refusion.restorers.base import HAZE_STRENGTHS, STRENGTHS
from refusion.restorers.contract import FLAT, STRUCTURED
from refusion.restorers.refusion import decomposition, hysteresis
from refusion.restorers.refusion import shadow_likeness as likeness
from refusion.restorers.refusion.conditions import required_conditions
from refusion.runtime.description import FORMAT
from refusion.sde import IRSDE, DenoisingSDE, build_sde, find_sampler
from refusion.sde.scattering import MIN_TRANSMISSION
from refusion.tiling import guided
from refusion.tiling.memory import auto_tile

UNIT_RANGE = "RGB in 0..1, no mean and no scale"
_PRIOR_RANGE = "RGB in -1..1"
_LATENT_RANGE = "latent of the U-Net, not normalised"


def metadata(
    checkpoint: Checkpoint, model: Model, graph: Graph, plan: dict[str, Any] | None
) -> dict[str, str]:
    """Texts by key for the metadata of an ONNX file.

    Args:
        checkpoint: file of the model.
        model: its networks.
        graph: the call in the ONNX file.
        plan: result of `runtime_plan`; only for the first file of a model.

    Returns:
        Short texts for readers of any program, and `refusion`: JSON with everything.
    """
    config = config_to_dict(checkpoint.model)
    licence = checkpoint.info.get("licence", checkpoint.info.get("license"))
    head = {
        "format": FORMAT,
        "version": __version__,
        "part": graph.part,
        "config": config,
        "info": checkpoint.info,
        "weights": sha256_of(checkpoint.path),
        "runtime": plan,
    }
    texts = {
        "task": checkpoint.model.task,
        "part": graph.part,
        "process": json.dumps(config.get("sde")),
        "prediction": str(checkpoint.model.prediction),
        "normalisation": _normalisation(model, graph),
        "licence": licence or "not stated in the weights file; see its model card",
    }
    return texts | {"refusion": json.dumps(head)}


def _normalisation(model: Model, graph: Graph) -> str:
    if graph.part == "network" and model.latent_unet is not None:
        return _LATENT_RANGE
    is_prior = model.config.sde is not None and model.config.sde.type == "VPSDE"
    return _PRIOR_RANGE if is_prior else UNIT_RANGE


def runtime_plan(model: Model, steps: int | None, sampler: str | None) -> dict[str, Any] | None:
    """All that `refusion.runtime` needs besides the graph; None if it cannot run the model.

    It runs models of photos that need no condition: regressions, and processes on pixels, with a
    reduced copy, haze or noise. All other models are networks for programs of others.

    Args:
        model: networks and config.
        steps: network evaluations; None for the default of the model.
        sampler: key of `refusion.sde.SAMPLERS`; None for the default of the model.

    Raises:
        ConfigError: steps or sampler do not suit the model.
    """
    config, network = model.config, model.network
    if not is_restorer_of_photos(model):
        return None
    is_haze = config.prediction == "scattering"
    plan = {
        "task": config.task,
        "factor": getattr(network, "factor", 1),
        "tile": auto_tile(network, torch.float32, torch.zeros(1, 3, 1, 1), torch.device("cpu")),
        "strengths": HAZE_STRENGTHS if is_haze else STRENGTHS,
        "flat": [FLAT, STRUCTURED],
    }
    if config.sampling is None:
        return plan
    if config.sampling.process_side is not None:
        copy = {"side": config.sampling.process_side}
        plan["copy"] = copy | {"window": guided.WINDOW, "smoothness": guided.SMOOTHNESS}
    if is_haze:
        return plan | {"haze": {"scale": config.sampling.depth_scale} | _haze()}
    if config.sampling.change_limits is not None:
        sizes = {"side": hysteresis.SIDE, "radius": hysteresis.RADIUS, "dark": hysteresis.DARK}
        plan["change"] = {"limits": config.sampling.change_limits} | sizes
    if config.sampling.shadow_limits is not None:
        names = ("around", "bright", "darkest", "reach", "least", "clear", "weakness", "eps")
        constants = {name: getattr(likeness, name.upper()) for name in names}
        plan["change"]["shadow"] = {"limits": config.sampling.shadow_limits} | constants
    return plan | {"process": _process(model, steps, sampler)}


def is_restorer_of_photos(model: Model) -> bool:
    """Whether a model restores a photo of any size from the photo alone.

    Args:
        model: networks and config.
    """
    config, network = model.config, model.network
    if network is None or model.latent_unet is not None or config.upscale is not None:
        return False
    if config.network.settings.get("stereo") or required_conditions(config):
        return False
    is_regression = getattr(network, "is_regression", False)
    return is_regression or (config.sde is not None and config.sde.type != "VPSDE")


def _haze() -> dict[str, Any]:
    return {
        "limits": [decomposition.NO_HAZE, decomposition.HAZE],
        "window": decomposition.EDGE_WINDOW,
        "smoothness": decomposition.EDGE_SMOOTHNESS,
        "min_transmission": MIN_TRANSMISSION,
        "gamma": decomposition.GAMMA,
    }


def _process(model: Model, steps: int | None, sampler: str | None) -> dict[str, Any]:
    """Sampler, start state and tables of coefficients."""
    config, sampling = model.config, model.config.sampling
    sde = build_sde({"type": config.sde.type, **config.sde.settings})
    name, steps = sampler or sampling.sampler, steps or sampling.steps
    found, start = find_sampler(name), sampling.distilled_at
    facts = {"sampler": name, "steps": steps}
    if isinstance(sde, DenoisingSDE):
        tables = table_for_starts(sde, config.prediction, found, steps, range(1, sde.T + 1))
        noise = {"largest": sde.lam, "limits": noise_limits(sde)} | _noise_level()
        return facts | {"start_std": 0.0, "tables": [*map(as_json, tables)], "noise": noise}
    table = step_table(sde, config.prediction, found, steps, start)
    return facts | {"start_std": _start_std(sde, sampling.start_noise, start),
                    "tables": [as_json(table)]}  # fmt: skip


def _start_std(sde: IRSDE, share: float, start: int | None) -> float:
    return share * sde.initial_std(start)


def _noise_level() -> dict[str, Any]:
    """Constants of the estimate of the noise level, by their names in `images.noise_level`."""
    names = ("BLOCK", "MOST_BLOCKS", "SMOOTH_SHARE", "COARSE_SHARE", "NEGLIGIBLE", "FLAT",
             "MOST_FLAT", "PENALTY")  # fmt: skip
    return {name.lower(): getattr(noise_level, name) for name in names}
