"""The calls of a model's networks as modules with tensors as arguments, ready for an exporter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from refusion.checkpoint import Model
from refusion.nets import UnconditionalUNet
from refusion.sde.haze_choice import haze_from_output

_RGB = 3
_LENS = 3  # numbers: source lens, target lens, disparity
_LENGTHS = ("height", "width")


@dataclass(frozen=True)
class Graph:
    """One call of a network.

    Attributes:
        part: 'network', or a part of the latent U-Net: 'fine_encode', 'coarse_encode',
            'coarse_decode' or 'fine_decode'.
        module: takes the inputs in their order, returns a tensor or a tuple of tensors.
        channels: number of channels of each input that is an image; None for a vector, whose
            length is `vectors`.
        vectors: length of each input that is a vector: 'time' and 'lens'.
        multiple: sides of the images are multiples of this number.
        scales: of each image input, its pixels per pixel of the first input, per axis.
        outputs: names of the outputs.
    """

    part: str
    module: nn.Module
    channels: dict[str, int]
    vectors: dict[str, int]
    multiple: int
    scales: dict[str, float]
    outputs: tuple[str, ...] = ("output",)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs: images, then vectors."""
        return (*self.channels, *self.vectors)

    def example(self, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, images in [0, 1].

        Args:
            height: rows of the first image, a multiple of `multiple`.
            width: columns of the first image, a multiple of `multiple`.
            seed: of the random numbers.
        """
        generator = torch.Generator().manual_seed(seed)

        def image(name: str) -> Tensor:
            sides = (int(side * self.scales.get(name, 1)) for side in (height, width))
            return torch.rand(1, self.channels[name], *sides, generator=generator)

        vectors = [torch.full((1, size), 20.0) for size in self.vectors.values()]
        vectors = [v[:, 0] if v.shape[1] == 1 else v for v in vectors]
        return (*map(image, self.channels), *vectors)


def graphs_of(model: Model) -> list[Graph]:
    """All calls of the networks of a model; the network comes first.

    Args:
        model: networks and config.
    """
    network = [] if model.network is None else [_network_graph(model)]
    return network + ([] if model.latent_unet is None else _latent_graphs(model))


class _NetworkCall(nn.Module):
    """A network with its inputs by position; the haze that it predicts is further outputs."""

    def __init__(self, network: nn.Module, names: Sequence[str], *, is_haze: bool) -> None:
        super().__init__()
        self.network, self.names, self.is_haze = network, tuple(names), is_haze

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        given = dict(zip(self.names, tensors, strict=True))
        if "photo" in given:
            return self.network(given["photo"])
        state = given.pop("state", None)
        mu = given.pop("mu", state)
        time = given.pop("time", torch.zeros(1))
        output = self.network(mu if state is None else state, mu, time, **given)
        if not self.is_haze:
            return output
        haze = haze_from_output(output, mu)
        return output, haze.tau, haze.airlight


def _network_graph(model: Model) -> Graph:
    channels, vectors = _network_inputs(model)
    is_haze = model.config.prediction == "scattering"
    call = _NetworkCall(model.network, (*channels, *vectors), is_haze=is_haze)
    outputs = ("output", "tau", "airlight") if is_haze else ("output",)
    return Graph("network", call, channels, vectors, 1, {}, outputs)


def _network_inputs(model: Model) -> tuple[dict[str, int], dict[str, int]]:
    """Channels of the images and lengths of the vectors that a network takes."""
    network, settings = model.network, model.config.network.settings
    if getattr(network, "is_regression", False):
        return {"photo": _RGB}, {}
    size = _RGB if model.latent_unet is None else model.latent_unet.embed_dim
    size *= 2 if settings.get("stereo") else 1
    sees_state = getattr(network, "sees_state", True)
    sees_mu = settings.get("conditional", True) and not isinstance(network, UnconditionalUNet)
    guide = settings.get("guide", 0)
    images = {"state": size} if sees_state else {}
    images |= {"mu": size} if sees_mu else {}
    images |= {"guide": guide} if guide else {}
    vectors = {"time": 1} if sees_state else {}
    return images, vectors | ({"lens": _LENS} if settings.get("lens") else {})


class _LatentCall(nn.Module):
    """One of the four parts of a latent U-Net, with its skips by position."""

    def __init__(self, unet: nn.Module, part: str) -> None:
        super().__init__()
        self.latent_unet, self.part = unet, part

    def forward(self, x: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        call = getattr(self.latent_unet, self.part)
        if self.part.endswith("decode"):
            return (call(x, skips),)
        out, found = call(x)
        return out, *found


def _latent_graphs(model: Model) -> list[Graph]:
    """The fine and the coarse parts; a runtime pads the photo and cuts the tiles."""
    unet = model.latent_unet
    with torch.no_grad():
        photo = torch.zeros(1, unet.guide + unet.out_ch, unet.multiple, unet.multiple)
        coarse, fine = unet.fine_encode(photo)
        z, pair = unet.coarse_encode(coarse)
        back = unet.coarse_decode(z, pair)
    fine_names = tuple(f"skip{number}" for number in range(len(fine)))
    pair_names = ("coarse0", "coarse1")
    sizes = {name: skip.shape[1] for name, skip in zip(fine_names, fine, strict=True)}
    scales = {
        name: skip.shape[-1] / coarse.shape[-1] for name, skip in zip(fine_names, fine, strict=True)
    }
    pair_sizes = dict(zip(pair_names, (skip.shape[1] for skip in pair), strict=True))

    def graph(
        part: str, channels: dict[str, int], multiple: int, outputs: tuple[str, ...]
    ) -> Graph:
        call = _LatentCall(unet, part)
        return Graph(part, call, channels, {}, multiple, scales, outputs)

    first = {"photo": photo.shape[1]}
    return [
        graph("fine_encode", first, unet.factor, ("map", *fine_names)),
        graph("coarse_encode", {"map": coarse.shape[1]}, 1, ("latent", *pair_names)),
        graph("coarse_decode", {"latent": z.shape[1], **pair_sizes}, 1, ("map",)),
        graph("fine_decode", {"map": back.shape[1], **sizes}, 1, ("photo",)),
    ]


def axis_names(graph: Graph) -> dict[str, dict[int, str]]:
    """Names of the variable sides of all images, by input and axis, for an exporter.

    Args:
        graph: the call; images with a scale have sides of their own names.
    """
    named = {}
    for name in (*graph.channels, *graph.outputs):
        scale = graph.scales.get(name, 1) if name != graph.inputs[0] else 1
        suffix = "" if graph.multiple == scale == 1 else f"_{name}"
        named[name] = {axis: f"{side}{suffix}" for axis, side in zip((2, 3), _LENGTHS, strict=True)}
    return named
