"""Degradations: functions that turn a clean photo into the input of a restorer.

Import `build_degradation` and `DEGRADATIONS` from here; `data` and all higher packages may import
them. A new degradation is one file with a frozen dataclass as in `base.Degradation`, whose fields
are its settings, and one entry in `DEGRADATIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from refusion.config.parser import Component, FromTable, Parser, to_plain
from refusion.errors import ConfigError
from refusion.synthesis.degradations.base import Degradation
from refusion.synthesis.degradations.blind import FirstOrder, SecondOrder
from refusion.synthesis.degradations.blur import GaussianBlur, MotionBlur
from refusion.synthesis.degradations.bokeh import Bokeh
from refusion.synthesis.degradations.camera_noise import CameraNoise
from refusion.synthesis.degradations.chain import Chain
from refusion.synthesis.degradations.cropped import Cropped
from refusion.synthesis.degradations.downsample import Downsample
from refusion.synthesis.degradations.greyscale import Greyscale
from refusion.synthesis.degradations.haze import Haze
from refusion.synthesis.degradations.jpeg import Jpeg
from refusion.synthesis.degradations.mask import Mask
from refusion.synthesis.degradations.mixed_blur import MixedBlur, SincFilter
from refusion.synthesis.degradations.mixed_noise import MixedNoise
from refusion.synthesis.degradations.noise import GaussianNoise, PoissonNoise
from refusion.synthesis.degradations.one_of import OneOf
from refusion.synthesis.degradations.rain import Rain
from refusion.synthesis.degradations.shadow import Shadow

DEGRADATIONS: dict[str, type] = {
    "Haze": Haze,
    "Shadow": Shadow,
    "Bokeh": Bokeh,
    "Rain": Rain,
    "MotionBlur": MotionBlur,
    "GaussianBlur": GaussianBlur,
    "GaussianNoise": GaussianNoise,
    "PoissonNoise": PoissonNoise,
    "CameraNoise": CameraNoise,
    "Jpeg": Jpeg,
    "Downsample": Downsample,
    "Mask": Mask,
    "MixedBlur": MixedBlur,
    "SincFilter": SincFilter,
    "MixedNoise": MixedNoise,
    "FirstOrder": FirstOrder,
    "SecondOrder": SecondOrder,
    "Chain": Chain,
    "OneOf": OneOf,
    "Greyscale": Greyscale,
    "Cropped": Cropped,
}
"""YAML key -> class."""


@dataclass(frozen=True)
class _Section:
    degradation: Annotated[Component, FromTable("degradations")]


def build_degradation(component: Component | Mapping[str, Any]) -> Degradation:
    """Build a degradation, and those inside it, from their section.

    Args:
        component: checked or not: {type: Haze, ...} as YAML has it will do.

    Raises:
        ConfigError: unknown word or setting, wrong type, or a value out of range; names the key.
    """
    parser = Parser("", lambda _: DEGRADATIONS)
    section = parser.parse(_Section, {"degradation": to_plain(component)})
    return _built(section.degradation, "degradation")


def _built(component: Component, key: str) -> Degradation:
    settings = {name: _value(item, f"{key}.{name}") for name, item in component.settings.items()}
    try:
        return DEGRADATIONS[component.type](**settings)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _value(value: Any, key: str) -> Any:
    """Build what is a section, alone or in a list."""
    if isinstance(value, Component):
        return _built(value, key)
    if isinstance(value, tuple):
        return tuple(_value(item, f"{key}.{number}") for number, item in enumerate(value))
    return value
