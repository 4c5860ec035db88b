"""The whole method as one graph, from photo to restored photo, for programs that cut tiles.

Such a program knows nothing of samplers, so the graph holds all steps. Each tile is restored from
its own pixels, so a model must not need more of the photo, and averages over the whole map become
averages over windows: otherwise the borders of the tiles would show.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from refusion.checkpoint import Model
from refusion.config import ModelConfig
from refusion.errors import ConfigError
from refusion.export.description import is_restorer_of_photos
from refusion.export.graphs import Graph, graphs_of
from refusion.export.tables import StepTable, step_table
from refusion.nets.nafnet_blocks import ChannelPool
from refusion.sde import DenoisingSDE, build_sde, find_sampler

RIM = 64
"""Pixels at each side of a tile that darktable does not use."""


def photo_graph(
    model: Model,
    noise_std: float | None = None,
    steps: int | None = None,
    sampler: str | None = None,
) -> Graph:
    """The whole method as one call: photo (1, 3, H, W) in [0, 1] to restored photo, any H and W.

    Args:
        model: networks and config.
        noise_std: noise that the model removes, standard deviation in [0, 1] units; for a model of
            denoising, whose process starts at this level, and for no other.
        steps: network evaluations; None for the default of the model.
        sampler: key of `refusion.sde.SAMPLERS`; None for the default of the model.

    Raises:
        ConfigError: the model needs more than a tile of the photo, or an option does not suit it.
    """
    _check_local(model)
    if model.config.sampling is not None:
        table = _steps(model.config, noise_std, steps, sampler)
    elif (noise_std, steps, sampler) != (None, None, None):
        raise ConfigError(
            f"noise level, steps, sampler: the '{model.config.task}' model is a regression; leave "
            "them out"
        )
    else:
        table = None
    network = graphs_of(replace(model, network=_with_local_means(model.network)))[0]
    return Graph("photo", _Restoration(network, table), {"photo": 3}, {}, 1, {})


class _Restoration(nn.Module):
    """All calls of a network for a photo, with the factors of a table; None for a regression."""

    def __init__(self, network: Graph, table: StepTable | None) -> None:
        super().__init__()
        self.network, self.names, self.table = network.module, network.inputs, table

    def forward(self, photo: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1] -> the same."""
        if self.table is None:
            return self._call(photo, photo, 0.0).clamp(0, 1)
        state, past = photo, []  # states and outputs, the newest first
        for time, row in zip(self.table.times, self.table.rows, strict=True):
            past = [(state, self._call(state, photo, time)), *past]
            images = {"mu": photo} | {
                f"{kind}{age}": image
                for age, call in enumerate(past)
                for kind, image in zip(("state", "output"), call, strict=True)
            }
            factors = zip(self.table.columns, row, strict=True)
            state = sum(factor * images[name] for name, factor in factors if factor)
        return state.clamp(0, 1)

    def _call(self, state: Tensor, photo: Tensor, time: float) -> Tensor:
        given = {"photo": photo, "mu": photo, "state": state, "time": torch.tensor([float(time)])}
        return self.network(*(given[name] for name in self.names))


def _with_local_means(network: nn.Module) -> nn.Module:
    """A copy of a network without the averages over the whole map.

    With these, every tile would have other averages, and the borders of the tiles would show.
    """
    network = copy.deepcopy(network)
    pools = [each for each in network.modules() if isinstance(each, ChannelPool)]
    if pools and pools[0].window is None:
        network.set_pool_window(2 * RIM)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ChannelPool):
                setattr(parent, name, _LocalMean(child.window))
    return network


class _LocalMean(nn.Module):
    """Means of each channel over a window around each pixel, without what lies beyond the map.

    Only windows at the border differ from those of `ChannelPool`, and darktable cuts them off. In
    ONNX these means are two poolings, which need half the time.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.radius = window // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        radius, side = self.radius, 2 * self.radius + 1
        rows = avg_pool2d(x, (side, 1), 1, (radius, 0), count_include_pad=False)
        return avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)


def _check_local(model: Model) -> None:
    config, sampling = model.config, model.config.sampling
    advice = "darktable gives tiles of the photo and nothing else; export an .onnx file instead"
    if not is_restorer_of_photos(model):
        raise ConfigError(
            f"the '{config.task}' model needs more than a photo, or changes its size; {advice}"
        )
    if sampling is None:
        return
    is_whole = sampling.process_side is not None or sampling.change_limits is not None
    if is_whole or config.prediction == "scattering":
        raise ConfigError(f"the '{config.task}' model needs the whole photo; {advice}")


def _steps(
    config: ModelConfig, noise_std: float | None, steps: int | None, sampler: str | None
) -> StepTable:
    """The steps of the sampler."""
    sde = build_sde({"type": config.sde.type, **config.sde.settings})
    steps, start = steps or config.sampling.steps, config.sampling.distilled_at
    if isinstance(sde, DenoisingSDE):
        start = sde.optimal_timestep(_checked_level(config.task, noise_std, sde.lam))
        steps = min(steps, start)
    elif noise_std is not None:
        raise ConfigError(f"noise level: the '{config.task}' model takes none; leave it out")
    found = find_sampler(sampler or config.sampling.sampler)
    table = step_table(sde, config.prediction, found, steps, start)
    if "noise" in table.columns or config.sampling.start_noise * sde.initial_std(start):
        raise ConfigError(
            f"the '{config.task}' model needs random numbers, which darktable does not give; "
            "export an .onnx file instead, or choose another sampler"
        )
    return table


def _checked_level(task: str, noise_std: float | None, largest: float) -> float:
    if noise_std is None:
        raise ConfigError(
            f"noise level: missing; darktable gives the '{task}' model none, so a file removes "
            "noise of one level; choose it with --noise-level, for example 5, 15 or 30"
        )
    if not 0 < noise_std <= largest:
        raise ConfigError(
            f"noise level: expected above 0 and at most {255 * largest:.4g}, got "
            f"{255 * noise_std:.4g}"
        )
    return noise_std
