"""Low-rank adapters (LoRA, Hu et al. 2022) for the networks of a Stable Diffusion, with peft.

The weight W of an adapted layer becomes W + (ALPHA / rank) B A. Several adapters can share one
frozen network, and `activate` selects those that are in use. So the generator, the critic and the
frozen network of OSEDiff need the memory of one network.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from refusion.errors import CheckpointError
from refusion.stable_diffusion.libraries import import_library

ALPHA = 8  # the default of peft, which OSEDiff uses


def attach(
    network: nn.Module, adapters: Mapping[str, Sequence[str]], rank: int, needed_by: str | Path
) -> None:
    """Add adapters to a network and activate all of them.

    B starts at 0, so the output of the network does not change.

    Args:
        network: network of diffusers or transformers; changed in place.
        adapters: for each adapter name, the full names of the linear layers and convolutions that
            it adapts.
        rank: rank of A and B.
        needed_by: file or folder that needs the adapters; error messages name it.

    Raises:
        CheckpointError: peft is not installed, or the network has no such layer.
    """
    peft = import_library("peft", needed_by)
    layers = {_original_name(name): type(module) for name, module in network.named_modules()}
    for modules in adapters.values():
        for name in modules:
            if not issubclass(layers.get(name, type(None)), (nn.Linear, nn.Conv2d)):
                raise CheckpointError(
                    f"{needed_by}: adapts the layer '{name}', which this Stable Diffusion does not "
                    "have; use the Stable Diffusion that the adapters were trained for"
                )
    for name, modules in adapters.items():
        config = peft.LoraConfig(
            r=rank, lora_alpha=ALPHA, target_modules=list(modules), init_lora_weights="gaussian"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of several adapters in one network
            peft.inject_adapter_in_model(config, network, name)
    activate(network, [*adapters])


def activate(network: nn.Module, adapters: Sequence[str]) -> None:
    """Use these adapters and no others; with an empty list the network is the original one.

    `requires_grad` of all parameters stays as it was. peft itself freezes inactive adapters, and
    then their gradients from an earlier call are lost.

    Args:
        network: network with adapters; changed in place.
        adapters: names of the adapters to use.
    """
    for _, layer in _adapted_layers(network):
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        layer.set_adapter(list(adapters), inference_mode=True)
        for parameter in trained:
            parameter.requires_grad_(True)


def parameters_of(network: nn.Module, adapters: Sequence[str]) -> dict[str, nn.Parameter]:
    """Parameters A and B of the named adapters, by their names in the network."""
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if (parts := name.split("."))[-3:-2] in (["lora_A"], ["lora_B"]) and parts[-2] in adapters
    }


def merge(network: nn.Module) -> None:
    """Add the active adapters to the weights that they adapt and remove all adapters, in place.

    The network computes the same function up to rounding, without the cost of the adapters.
    """
    for name, layer in list(_adapted_layers(network)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer.get_base_layer())


def _adapted_layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and modules of the layers that have adapters."""
    return ((name, module) for name, module in network.named_modules() if hasattr(module, "lora_A"))


def _original_name(name: str) -> str:
    """Name of a layer before adapters were added to it."""
    return name.removesuffix(".base_layer")
