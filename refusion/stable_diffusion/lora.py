"""Low-rank adapters (LoRA, Hu et al. 2022) of the networks of a Stable Diffusion, by peft.

A layer W becomes W + (ALPHA / rank) B A. Several adapters may share one frozen network; which of
them act is a switch, so that a network and copies of it with other adapters need memory for one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from refusion.errors import CheckpointError
from refusion.stable_diffusion.libraries import import_library

ALPHA = 8  # peft's default, which OSEDiff left in place


def attach(
    network: nn.Module, adapters: Mapping[str, Sequence[str]], rank: int, needed_by: str | Path
) -> None:
    """Add adapters, which all act from now on; with B = 0 they change nothing yet.

    Args:
        network: of diffusers or transformers; changed in place.
        adapters: by name, the full names of the linear layers and convolutions that get one.
        rank: of each update.
        needed_by: what errors name, such as the file that describes the adapters.

    Raises:
        CheckpointError: peft is missing, or the network has no such layer.
    """
    peft = import_library("peft", needed_by)
    layers = {_own_name(name): type(module) for name, module in network.named_modules()}
    for modules in adapters.values():
        for name in modules:
            if not issubclass(layers.get(name, type(None)), (nn.Linear, nn.Conv2d)):
                raise CheckpointError(
                    f"{needed_by}: adapts the layer '{name}', which this Stable Diffusion has not; "
                    "use the one that it was trained for"
                )
    for name, modules in adapters.items():
        config = peft.LoraConfig(
            r=rank, lora_alpha=ALPHA, target_modules=list(modules), init_lora_weights="gaussian"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are several adapters, as wanted
            peft.inject_adapter_in_model(config, network, name)
    activate(network, [*adapters])


def activate(network: nn.Module, adapters: Sequence[str]) -> None:
    """Have these adapters act, and no others; none gives the network as it was.

    What is trained stays what it is: peft would freeze adapters that do not act, and their
    gradients from an earlier call would be lost.
    """
    for _, layer in _adapted(network):
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        layer.set_adapter(list(adapters), inference_mode=True)
        for parameter in trained:
            parameter.requires_grad_(True)


def parameters_of(network: nn.Module, adapters: Sequence[str]) -> dict[str, nn.Parameter]:
    """Weights A and B of adapters by their names in the network."""
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if (parts := name.split("."))[-3:-2] in (["lora_A"], ["lora_B"]) and parts[-2] in adapters
    }


def merge(network: nn.Module) -> None:
    """Add the acting adapters to the weights they adapt and remove all adapters, in place.

    The same function to rounding, in the time of the network alone.
    """
    for name, layer in list(_adapted(network)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer.get_base_layer())


def _adapted(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that have adapters."""
    return ((name, module) for name, module in network.named_modules() if hasattr(module, "lora_A"))


def _own_name(name: str) -> str:
    """Name that a layer had before it got adapters."""
    return name.removesuffix(".base_layer")
