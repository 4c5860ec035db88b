"""Do published files belong together? Refusals say why, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusion.config.parser import Component
from refusion.errors import CheckpointError

_PHOTO_CHANNELS = 3
_VARIANTS = {  # settings that the release fixes by task, in words: when set, when not
    "conditional": ("sees the degraded photo", "sees the noisy photo alone, to denoise it"),
    "lens": ("is told the lenses, for bokeh", "is not told the lenses"),
    "stereo": ("is for stereo pairs", "is for single photos"),
}
_SECTIONS = {"network": "network_G", "latent_unet": "network_L"}
_NAMES = {"network": "noise network", "latent_unet": "latent U-Net"}
_OPTIONS = {"network": "--net", "latent_unet": "--latent"}


def check_pair(
    parts: Mapping[str, Component], network: Path | None, latent_unet: Path | None
) -> None:
    """Check that a noise network works where it is to work: on photos, or in that latent.

    Args:
        parts: detected `network` and `latent_unet`.
        network: file of the noise network, for the message.
        latent_unet: file of the latent U-Net, for the message.

    Raises:
        CheckpointError: their channels differ.
    """
    if "network" not in parts:
        return
    settings = parts["network"].settings
    channels = settings.get("img_channel", settings.get("in_nc"))
    if "latent_unet" not in parts:
        if channels != _PHOTO_CHANNELS:
            raise CheckpointError(
                f"{network}: takes {channels} channels, a photo has {_PHOTO_CHANNELS}: it works in "
                "the latent of a U-Net; add --latent with the file released beside it, such as "
                "latent-dehazing.pth"
            )
        return
    latent = parts["latent_unet"].settings["embed_dim"]
    if channels != latent:
        raise CheckpointError(
            f"{network} takes {channels} channels but the latent of {latent_unet} has {latent}: "
            "they are not of one model; give the latent U-Net this network was trained in"
            + ("" if channels != _PHOTO_CHANNELS else ", or none, as it works on photos")
        )


def check_described(
    parts: Mapping[str, Component], model: Mapping[str, Any], source: str, *, trust_sizes: bool
) -> None:
    """Check that an option file describes the networks found in the weights.

    Args:
        parts: detected `network` and `latent_unet`.
        model: translation of the option file.
        source: the option file, for the message.
        trust_sizes: let sizes differ; the kind of network must still be the same.

    Raises:
        CheckpointError: names every key that differs.
    """
    for part, name in _NAMES.items():
        if part in model and part not in parts:
            raise CheckpointError(
                f"{source}: describes a {name}; add {_OPTIONS[part]} with its weights"
            )
        if part in parts and part not in model:
            raise CheckpointError(
                f"{source}: describes no {name}, so it is not the option file of these weights"
            )
    for part, found in parts.items():
        _check_part(part, found, model, source, trust_sizes)


def _check_part(
    part: str, found: Component, model: Mapping[str, Any], source: str, trust_sizes: bool
) -> None:
    described = dict(model[part])
    if described["type"] != found.type:
        raise CheckpointError(
            f"{source}: describes a {described['type']}, the weights are of a {found.type}; "
            "give the option file of these weights"
        )
    for name, (yes, no) in _VARIANTS.items():
        default = name == "conditional"
        stated, is_so = described.get(name, default), found.settings.get(name, default)
        if stated != is_so:
            raise CheckpointError(
                f"{source}: describes the task '{model['task']}', whose network "
                f"{yes if stated else no}; that of the weights {yes if is_so else no}; "
                "give the option file of these weights"
            )
    section = "network_G" if "network" not in model else _SECTIONS[part]
    differences = [
        f"{section}.setting.{key} is {value} there, {found.settings[key]} in the weights"
        for key, value in described.items()
        if key in found.settings and key not in (*_VARIANTS, "mid_attention")
        if _listed(value) != _listed(found.settings[key])
    ]
    if differences and not trust_sizes:
        raise CheckpointError(
            f"{source} does not describe these weights: {'; '.join(differences)}. Change these "
            "keys in the file, or pass --trust-weights to follow the weights (some released "
            "weights differ from their option files, such as deshadowing and inpainting by IR-SDE)"
        )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
