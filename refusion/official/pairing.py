"""Checks that published files belong together; error messages give the reason and a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusion.config.parser import Component
from refusion.errors import CheckpointError

_PHOTO_CHANNELS = 3
_VARIANTS = {  # settings that depend on the task, and their meaning for messages: true, false
    "conditional": ("is conditioned on the degraded photo", "has no input but the noisy photo"),
    "lens": ("is conditioned on the lenses, for bokeh", "is not conditioned on lenses"),
    "stereo": ("is for stereo pairs", "is for single photos"),
}
_SECTIONS = {"network": "network_G", "latent_unet": "network_L"}
_NAMES = {"network": "noise network", "latent_unet": "latent U-Net"}
_OPTIONS = {"network": "--net", "latent_unet": "--latent"}


def check_pair(
    parts: Mapping[str, Component], network: Path | None, latent_unet: Path | None
) -> None:
    """Check that a noise network has the channels of the photos or of the given latent.

    Args:
        parts: detected components `network` and `latent_unet`, either may be absent.
        network: file of the noise network, for the message.
        latent_unet: file of the latent U-Net, for the message.

    Raises:
        CheckpointError: the numbers of channels differ.
    """
    if "network" not in parts:
        return
    settings = parts["network"].settings
    channels = settings.get("img_channel", settings.get("in_nc"))
    if "latent_unet" not in parts:
        if channels != _PHOTO_CHANNELS:
            raise CheckpointError(
                f"{network}: takes {channels} channels, but a photo has {_PHOTO_CHANNELS}; this "
                "network works in the latent of a U-Net: add --latent with the file of its "
                "release, for example latent-dehazing.pth"
            )
        return
    latent = parts["latent_unet"].settings["embed_dim"]
    if channels != latent:
        raise CheckpointError(
            f"{network} takes {channels} channels, but the latent of {latent_unet} has {latent}: "
            "the files belong to different models; give the latent U-Net of this network"
            + ("" if channels != _PHOTO_CHANNELS else ", or none, because it works on photos")
        )


def check_described(
    parts: Mapping[str, Component], model: Mapping[str, Any], source: str, *, trust_sizes: bool
) -> None:
    """Check that an option file describes the networks found in the weights.

    Args:
        parts: detected components `network` and `latent_unet`, either may be absent.
        model: translation of the option file.
        source: the option file, for the message.
        trust_sizes: allow different sizes; the type of network must still be the same.

    Raises:
        CheckpointError: the option file describes another network; the message names every key
            that differs.
    """
    for part, name in _NAMES.items():
        if part in model and part not in parts:
            raise CheckpointError(
                f"{source}: describes a {name}; add {_OPTIONS[part]} with its weights"
            )
        if part in parts and part not in model:
            raise CheckpointError(
                f"{source}: describes no {name}; give the option file of these weights"
            )
    for part, found in parts.items():
        _check_part(part, found, model, source, trust_sizes)


def _check_part(
    part: str, found: Component, model: Mapping[str, Any], source: str, trust_sizes: bool
) -> None:
    described = dict(model[part])
    if described["type"] != found.type:
        raise CheckpointError(
            f"{source}: describes a {described['type']}, but the weights are of a {found.type}; "
            "give the option file of these weights"
        )
    for name, (yes, no) in _VARIANTS.items():
        default = name == "conditional"
        stated, is_so = described.get(name, default), found.settings.get(name, default)
        if stated != is_so:
            raise CheckpointError(
                f"{source}: describes the task '{model['task']}', whose network "
                f"{yes if stated else no}; the network of the weights {yes if is_so else no}; "
                "give the option file of these weights"
            )
    section = "network_G" if "network" not in model else _SECTIONS[part]
    differences = [
        f"{section}.setting.{key} is {value} in the file, {found.settings[key]} in the weights"
        for key, value in described.items()
        if key in found.settings and key not in (*_VARIANTS, "mid_attention")
        if _as_list(value) != _as_list(found.settings[key])
    ]
    if differences and not trust_sizes:
        raise CheckpointError(
            f"{source} does not describe these weights: {'; '.join(differences)}. Change these "
            "keys in the file, or pass --trust-weights to use the sizes of the weights (some "
            "released weights differ from their option files, for example IR-SDE for deshadowing "
            "and inpainting)"
        )


def _as_list(value: Any) -> Any:
    """A tuple as a list, for comparison; other values as they are."""
    return list(value) if isinstance(value, (list, tuple)) else value
