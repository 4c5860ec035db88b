"""A network that sees the state of the process, turned into one that sees the photo only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from refusion.checkpoint.file import Checkpoint
from refusion.config.parser import Component
from refusion.errors import ConfigError
from refusion.nets.layers import SinusoidalEmbedding

FIRST = "network.intro.weight"
WEIGHT, BIAS = "network.time_mlp.1.weight", "network.time_mlp.1.bias"


def without_state(checkpoint: Checkpoint, time: int) -> Checkpoint:
    """Remove the state from the inputs of a `ConditionalNAFNet`: `sees_state: false`.

    The new network gives what the old one gives for the state xt = mu at the given time. So it is a
    start for a training (`init` of an option file) whose result does not depend on the steps.

    Args:
        checkpoint: of a network that sees state and photo.
        time: time index that the network is fixed to, 1..T; T if it was trained for one step.

    Returns:
        The checkpoint with fewer inputs of the first layer; the path is that of the old one.

    Raises:
        ConfigError: the network is no `ConditionalNAFNet` of a single view that sees the state and
            the photo.
    """
    settings = _settings(checkpoint)
    tensors = dict(checkpoint.tensors)
    first = tensors[FIRST]
    width, folded = first.shape[0], settings.get("pixel_unshuffle", 1) ** 2
    seen = settings.get("img_channel", 3) * folded
    tensors[FIRST] = first[:, seen:].contiguous()
    embed = SinusoidalEmbedding(width)
    moved = (embed(torch.tensor([time])) - embed(torch.tensor([0])))[0]
    weight, bias = (tensors[name].float() for name in (WEIGHT, BIAS))
    tensors[BIAS] = bias + weight @ moved
    network = Component("ConditionalNAFNet", {**settings, "sees_state": False})
    model = replace(checkpoint.model, network=network)
    return replace(checkpoint, model=model, tensors=tensors)


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    network = checkpoint.model.network
    kind = None if network is None else network.type
    settings = {} if network is None else dict(network.settings)
    is_known = kind == "ConditionalNAFNet" and not (settings.get("lens") or settings.get("stereo"))
    sees_both = settings.get("sees_state", True) and settings.get("conditional", True)
    if not (is_known and sees_both):
        raise ConfigError(
            f"{checkpoint.path}: expected a ConditionalNAFNet without lens and stereo that sees "
            f"state and photo, got {kind} with {settings}"
        )
    return settings
