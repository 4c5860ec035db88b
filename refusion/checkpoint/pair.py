"""Two trained networks of the same shape, joined to a pair, and taken apart again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from refusion.arguments import check_arguments
from refusion.checkpoint.file import Checkpoint
from refusion.checkpoint.shapes import check_shapes, expected_shapes
from refusion.config.parser import Component
from refusion.config.settings import all_settings
from refusion.errors import ConfigError
from refusion.nets import NAFNetPair

# Settings of `ConditionalNAFNet` that the networks of a pair do not have, and their defaults.
_DEFAULTS = {"img_channel": 3, "wiring": "pixel", "sees_state": True, "conditional": True,
             "lens": False, "stereo": False, "guide": 0, "pool_window": None}  # fmt: skip
_NEEDED = _DEFAULTS | {"sees_state": False}


def join_pair(first: Checkpoint, second: Checkpoint) -> Checkpoint:
    """A model with `NAFNetPair` of the networks of two models.

    Everything but the network is that of the first model: task, process, sampling.
    `depth_scale` of the first one then counts for both.

    Args:
        first: of a `ConditionalNAFNet` with `sees_state: false`, of pixels.
        second: of a network with the same settings and the same prediction. A setting that one
            file leaves out has its default.

    Returns:
        The checkpoint of the pair; the path is that of the first model.

    Raises:
        ConfigError: a network is another one, or the two differ.
        CheckpointError: a model has other tensors than its network.
    """
    check_arguments(join_pair, locals())
    settings = [_settings(checkpoint) for checkpoint in (first, second)]
    own, other = (all_settings(NAFNetPair, given) for given in settings)
    if own != other or first.model.prediction != second.model.prediction:
        raise ConfigError(
            f"{second.path}: expected a network with the settings and the prediction of "
            f"{first.path}, got others"
        )
    model = replace(first.model, network=Component("NAFNetPair", settings[0]))
    _check_tensors(first)
    _check_tensors(second)
    tensors = {**_placed(first, 0), **_placed(second, 1)}
    return replace(first, model=model, tensors=tensors)


def split_pair(pair: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
    """The models of both networks of a pair, for example to train one of them further.

    Args:
        pair: of a `NAFNetPair`.

    Returns:
        Two checkpoints that differ in their tensors only; their path is that of the pair.

    Raises:
        ConfigError: the network is no `NAFNetPair`.
        CheckpointError: the model has other tensors than its networks.
    """
    check_arguments(split_pair, locals())
    network = pair.model.network
    if network is None or network.type != "NAFNetPair":
        kind = None if network is None else network.type
        raise ConfigError(f"{pair.path}: expected a NAFNetPair, got {kind}")
    _check_tensors(pair)
    settings = {**_NEEDED, **network.settings}
    model = replace(pair.model, network=Component("ConditionalNAFNet", settings))
    first, second = (replace(pair, model=model, tensors=_taken(pair, place)) for place in (0, 1))
    return first, second


def _check_tensors(checkpoint: Checkpoint) -> None:
    found = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    check_shapes(checkpoint.path, found, expected_shapes(checkpoint.path, checkpoint.model))


def _taken(pair: Checkpoint, place: int) -> dict[str, Tensor]:
    """The tensors of one network of a pair, with their names in a model of its own."""
    prefix = f"network.networks.{place}."
    return {
        f"network.{name.removeprefix(prefix)}": tensor
        for name, tensor in pair.tensors.items()
        if name.startswith(prefix)
    }


def _placed(checkpoint: Checkpoint, place: int) -> dict[str, Tensor]:
    """The tensors of a network with their names in the pair."""
    return {
        f"network.networks.{place}.{name.removeprefix('network.')}": tensor
        for name, tensor in checkpoint.tensors.items()
    }


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings of the pair from those of one of its networks."""
    network = checkpoint.model.network
    kind = None if network is None else network.type
    settings = {} if network is None else dict(network.settings)
    given = {key: settings.pop(key, default) for key, default in _DEFAULTS.items()}
    is_single = kind == "ConditionalNAFNet" and given == _NEEDED
    if not is_single or checkpoint.model.latent_unet is not None:
        raise ConfigError(
            f"{checkpoint.path}: expected a ConditionalNAFNet on RGB pixels with wiring: pixel and "
            f"sees_state: false, got {kind} with {dict(network.settings) if network else {}}"
        )
    return settings
