"""`ModelConfig`: the description of a model for inference, stored in each checkpoint."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import Annotated

from refusion.arguments import check_arguments
from refusion.config.parser import Component, FromTable
from refusion.config.plugins import check_plugin_names
from refusion.config.regression import check_no_process, is_regressor
from refusion.config.scalars import short
from refusion.config.sections import SamplingConfig, UpscaleConfig
from refusion.config.tables import find_table
from refusion.errors import ConfigError

_RGB = 3
_CHANNELS = ("img_channel", "in_nc", "out_nc")  # settings of networks: state and output
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Net = Annotated[Component, FromTable("nets")]
Sde = Annotated[Component, FromTable("sdes")]
Prediction = Annotated[str, FromTable("predictions")]


@dataclass(frozen=True)
class ModelConfig:
    """Description of a model for inference, stored with its weights.

    The model of stage `latent_unet` has a latent U-Net only; the model of stage `regression` has a
    network only. All other models have a network, an SDE, a prediction and sampling settings.
    """

    task: str  # 'dehaze', 'derain', ...
    latent_unet: Net | None = None  # None: the process runs on pixels
    network: Net | None = None
    sde: Sde | None = None  # max_sigma in 8-bit levels
    prediction: Prediction | None = None  # what the network's output means
    sampling: SamplingConfig | None = None
    upscale: UpscaleConfig | None = None  # None: output and input have the same size
    plugins: tuple[str, ...] = ()  # modules that define components of the model; never imported

    def __post_init__(self) -> None:
        """Check the rules between the fields."""
        check_arguments(ModelConfig, vars(self))
        check_file_name("task", self.task)
        check_plugin_names(self.plugins)
        if self.latent_unet is None and self.network is None:
            raise ConfigError("network: a model needs a network, a latent_unet or both")
        if is_regressor(self.network):
            check_no_process(self.network, vars(self))
        elif self.network is not None:
            for key in ("sde", "prediction", "sampling"):
                check_present(key, getattr(self, key), "a model with a network")
            check_process(self.sde, self.sampling)
            _check_channels(self.latent_unet, self.network)
            _check_guide(self.guide, self.network, self.sampling)
            if self.latent_unet is None:
                check_photo_channels(self.network)
            check_output(self.prediction, self.network, self.latent_unet, self.upscale)

    @property
    def guide(self) -> int:
        """Channels of the guide, an additional input of the latent U-Net; 0 for none."""
        seen = self.latent_unet.settings if self.latent_unet else {}
        return seen.get("in_ch", 3) - seen.get("out_ch", 3)


def check_file_name(key: str, value: str) -> None:
    """Raise `ConfigError` unless a value can be part of a file name.

    Args:
        key: dotted key of the value, for the message.
        value: the value.
    """
    if not _FILE_NAME.fullmatch(value):
        raise ConfigError(
            f"{key}: {short(value)} must be letters, digits, '_', '-' or '.', no folder"
        )


def check_present(key: str, value: object, who: str) -> None:
    """Raise `ConfigError` if a required value is None.

    Args:
        key: dotted key of the value, for the message.
        value: the value.
        who: what requires the value, for the message.
    """
    if value is None:
        raise ConfigError(f"{key}: required by {who}")


def check_process(sde: Component, sampling: SamplingConfig) -> None:
    """Check the unit of the noise level and the number of sampling steps.

    Args:
        sde: section `sde`, with `max_sigma` in 8-bit levels.
        sampling: section `sampling`.

    Raises:
        ConfigError: `max_sigma` is below 1, or there are more sampling steps than `sde.T`.
    """
    max_sigma, limit = sde.settings.get("max_sigma", math.nan), sde.settings.get("T", math.inf)
    if max_sigma < 1:
        raise ConfigError(
            f"sde.max_sigma: {max_sigma:g} is below 1; write it in 8-bit levels, "
            f"{max_sigma * 255:g} for {max_sigma:g} of full scale"
        )
    if sampling.steps > limit:
        raise ConfigError(f"sampling.steps: {sampling.steps} exceeds sde.T = {limit}")


def check_photo_channels(network: Component) -> None:
    """Raise `ConfigError` unless a network of a model without a latent U-Net takes RGB photos."""
    for channels in _numbers(network, *_CHANNELS):
        if channels != _RGB:
            raise ConfigError(
                f"network: takes {channels} channels but a photo has {_RGB}; "
                f"add a latent_unet, or set {_RGB}"
            )


def check_output(
    prediction: str, network: Component, latent_unet: object, upscale: UpscaleConfig | None
) -> None:
    """Raise `ConfigError` unless the network's output has the channels of its prediction.

    Args:
        prediction: key of `refusion.sde.PREDICTIONS`.
        network: section `network`.
        latent_unet: section `latent_unet`; None for pixels.
        upscale: section `upscale`; None for results of the photo's size.
    """
    wanted = find_table("predictions")[prediction].channels
    given = next(iter(_numbers(network, "out_channel")), None)
    if wanted is None and given not in (None, *_numbers(network, "img_channel")):
        raise ConfigError(
            f"network.out_channel: prediction {prediction} has the channels of the state; "
            f"leave it out, got {given}"
        )
    more = [key for key in ("stereo", "lens", "guide") if network.settings.get(key)]
    is_plain = latent_unet is None and upscale is None and not more
    if wanted is None and network.type == "NAFNetPair":
        raise ConfigError(
            f"network.type: NAFNetPair needs prediction: scattering, got prediction: {prediction}"
        )
    if wanted is not None and not (given == wanted and is_plain):
        raise ConfigError(
            f"prediction: {prediction} describes RGB photos and needs a ConditionalNAFNet "
            f"or a NAFNetPair with out_channel: {wanted}, without latent_unet, upscale, stereo, "
            "lens and guide"
        )


def _check_channels(latent_unet: Component | None, network: Component) -> None:
    if latent_unet is None:
        return
    for latent in _numbers(latent_unet, "embed_dim"):
        for channels in _numbers(network, *_CHANNELS):
            if channels != latent:
                raise ConfigError(
                    f"network: takes {channels} channels but the latent has {latent} "
                    "(latent_unet.embed_dim)"
                )


def _numbers(component: Component, *keys: str) -> list[int]:
    """Values of the keys that a network has: from its settings, or else the defaults."""
    build = find_table("nets").get(component.type)
    known = inspect.signature(build).parameters if build else {}
    defaults = {key: known[key].default for key in keys if key in known}
    settings = {key: component.settings[key] for key in keys if key in component.settings}
    return list((defaults | settings).values())


def _check_guide(channels: int, network: Component, sampling: SamplingConfig) -> None:
    wanted = network.settings.get("guide", 0)
    if wanted not in (0, channels):
        raise ConfigError(
            f"network.guide: expected 0, or the {channels} channels of the latent U-Net's guide "
            f"(in_ch - out_ch), got {wanted}"
        )
    if channels and sampling.process_side is not None:
        raise ConfigError(
            "sampling.process_side: a guide describes the photo's own pixels, not those of a "
            "smaller copy; set null"
        )
