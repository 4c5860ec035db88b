"""A wider network that computes almost what a trained one computes (Net2Net, Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from refusion.arguments import check_arguments
from refusion.checkpoint.file import Checkpoint
from refusion.checkpoint.model import build_model
from refusion.config.networks import network_shapes
from refusion.config.parser import Component
from refusion.errors import ConfigError
from refusion.hints import Channels, Seed
from refusion.nets import ConditionalNAFNet, NAFNet
from refusion.nets.layers import SinusoidalEmbedding

NOISE = 0.02  # of each convolution, relative to its deviation: copies must not stay equal
RIDGE = 1e-2  # keeps the weights of the new time embedding small
_TIMES = 1000  # times that the new embedding is fitted to, from 0


def widened(checkpoint: Checkpoint, width: Channels, seed: Seed = 0) -> Checkpoint:
    """Widen a NAFNet: a start for the training of a larger network (`init` of an option file).

    The additional channels of each level are copies of random ones, and the layers after them
    share the weights among the copies. The norms average over the channels, so the result is the
    old one only if each channel has as many copies; otherwise it is close. An embedding of the
    time has other frequencies, so its first layer is fitted again, by ridge regression.

    Args:
        checkpoint: of a `NAFNet`, or of a `ConditionalNAFNet` without lens, stereo and guide.
        width: channels of the first level, at least as many as before.
        seed: of the choice of the channels and of the noise.

    Returns:
        The checkpoint of the wider network, float32; the path is that of the old one.

    Raises:
        ConfigError: the network is another one, or the width is smaller or too large.
        CheckpointError: the model has other tensors than its network.
    """
    check_arguments(widened, locals())
    network = build_model(checkpoint).network
    old_width = _width(checkpoint, network, width)
    settings = {**checkpoint.model.network.settings, "width": int(width)}
    component = replace(checkpoint.model.network, settings=settings)
    shapes = _shapes(component)
    generator = torch.Generator().manual_seed(seed)
    levels = len(network.encoders) + 1
    copies = [_copies(old_width << i, width << i, generator) for i in range(levels)]
    old = {name: tensor.float() for name, tensor in network.state_dict().items()}
    has_time = any(name.startswith("time_mlp") for name in old)
    new = _time_mlp(old, (old_width, width), generator) if has_time else {}
    for name in [name for name in old if not name.startswith("time_mlp")]:
        tensor = _widened(name, old[name], copies)
        if tensor.shape != shapes[name]:  # the layer that reads the embedding of the time
            tensor = torch.nn.functional.pad(tensor, (0, shapes[name][1] - tensor.shape[1]))
        if tensor.dim() == 4 and name.endswith("weight"):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor = tensor + NOISE * tensor.std() * noise
        new[name] = tensor.contiguous()
    model = replace(checkpoint.model, network=component)
    tensors = {f"network.{name}": tensor for name, tensor in new.items()}
    return replace(checkpoint, model=model, tensors=tensors)


def _shapes(component: Component) -> dict[str, torch.Size]:
    """Shapes of the tensors of the wider network."""
    try:
        return network_shapes(component)
    except ConfigError as error:
        raise ConfigError(f"width: {component.settings['width']}: {error}") from error


def _copies(old: int, new: int, generator: Generator) -> Tensor:
    """Numbers of the old channels that the new ones copy; the first ones are the old ones."""
    rounds = [torch.randperm(old, generator=generator) for _ in range(-(-new // old) - 1)]
    return torch.cat([torch.arange(old), *rounds])[:new]


def _widened(name: str, tensor: Tensor, copies: list[Tensor]) -> Tensor:
    """One tensor of the trunk, with copied outputs and shared inputs."""
    before, after = _levels(name, len(copies) - 1)
    if after is not None:
        tensor = _with_outputs(name, tensor, copies[after])
    mixes = tensor.dim() > 1 and tensor.shape[1] > 1  # not norms and depthwise convolutions
    is_shared = mixes and name.endswith("weight") and ".mlp." not in name
    if before is None or not is_shared:
        return tensor
    chosen = copies[before]
    share = 1 / torch.bincount(chosen)[chosen].to(tensor)
    return tensor[:, chosen] * share.view(1, -1, *[1] * (tensor.dim() - 2))


def _with_outputs(name: str, tensor: Tensor, copies: Tensor) -> Tensor:
    channels = int(copies.max()) + 1
    if name.split(".")[-1] in ("beta", "gamma", "g"):  # (1, C, 1, 1)
        return tensor[:, copies]
    if name.startswith("ups."):  # four outputs become the 2 x 2 pixels of a channel
        return tensor[(4 * copies[:, None] + torch.arange(4)).flatten()]
    parts = len(tensor) // channels  # halves of a gate; scales and shifts from the time
    return torch.cat([part[copies] for part in tensor.chunk(parts)])


def _levels(name: str, middle: int) -> tuple[int | None, int | None]:
    """Levels of the inputs and of the outputs of a layer; None for those that stay as they are."""
    part, *rest = name.split(".")
    if part in ("intro", "ending"):
        return (None, 0) if part == "intro" else (0, None)
    if part == "middle_blks":
        return middle, middle
    place = int(rest[0])
    return {
        "encoders": (place, place),
        "downs": (place, place + 1),
        "decoders": (middle - 1 - place, middle - 1 - place),
        "ups": (middle - place, middle - 1 - place),
    }[part]


def _time_mlp(
    old: Mapping[str, Tensor], widths: tuple[int, int], generator: Generator
) -> dict[str, Tensor]:
    """The embedding of the time: behind the old values of each half of a gate lie random ones.

    The layers after them have zeros for these, so they have no effect before the training.
    """
    names = [f"time_mlp.{place}.{kind}" for place in (1, 3) for kind in ("weight", "bias")]
    weight, bias, second, second_bias = (old[name].double() for name in names)
    times = torch.arange(_TIMES + 1)
    before, after = (SinusoidalEmbedding(width)(times).double() for width in widths)
    after = torch.cat([after, torch.ones(len(times), 1)], 1)
    square = after.T @ after + RIDGE * torch.eye(widths[1] + 1)
    fitted = torch.linalg.solve(square, after.T @ (before @ weight.T + bias)).T
    values = (fitted[:, :-1], fitted[:, -1], second, second_bias)
    hidden, out = 4 * widths[1], 2 * widths[1]  # of each half of the gates after the layers
    grown = (
        _halves(values[0], hidden, generator),
        _halves(values[1], hidden, generator),
        torch.nn.functional.pad(_halves(values[2], out, generator), (0, hidden - second.shape[1])),
        _halves(values[3], out, generator),
    )
    return {name: tensor.float() for name, tensor in zip(names, grown, strict=True)}


def _halves(tensor: Tensor, size: int, generator: Generator) -> Tensor:
    """Random rows behind each half of the rows, up to this number of rows per half."""
    half = len(tensor) // 2
    rows = torch.randn(2, size - half, *tensor.shape[1:], generator=generator) * tensor.std()
    pairs = zip(tensor.chunk(2), rows.to(tensor), strict=True)
    return torch.cat([part for pair in pairs for part in pair])


def _width(checkpoint: Checkpoint, network: Any, width: int) -> int:
    """Channels of the first level; checks that the network can be widened."""
    section = checkpoint.model.network
    settings = {} if section is None else section.settings
    others = [key for key in ("lens", "stereo", "guide") if settings.get(key)]
    if not isinstance(network, (NAFNet, ConditionalNAFNet)) or others:
        raise ConfigError(
            f"{checkpoint.path}: expected a NAFNet without lens, stereo and guide, got "
            f"{None if section is None else section.type} with {dict(settings)}"
        )
    old = network.intro.out_channels
    if width < old:
        raise ConfigError(f"width: expected at least {old}, as before, got {width}")
    return old
