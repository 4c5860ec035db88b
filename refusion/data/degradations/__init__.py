"""Degradations: what turns a clean photo into the input of a restorer, one idea per file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from refusion.data.degradations.base import Degradation
from refusion.data.degradations.blind import FirstOrder, SecondOrder
from refusion.data.degradations.blur import GaussianBlur, MotionBlur
from refusion.data.degradations.bokeh import Bokeh
from refusion.data.degradations.chain import Chain
from refusion.data.degradations.downsample import Downsample
from refusion.data.degradations.haze import Haze
from refusion.data.degradations.jpeg import Jpeg
from refusion.data.degradations.mask import Mask
from refusion.data.degradations.mixed_blur import MixedBlur, SincFilter
from refusion.data.degradations.mixed_noise import MixedNoise
from refusion.data.degradations.noise import GaussianNoise, PoissonNoise
from refusion.data.degradations.rain import Rain
from refusion.data.degradations.shadow import Shadow
from refusion.errors import ConfigError
from refusion.schema import Component, FromTable, Parser, to_plain

DEGRADATIONS: dict[str, type] = {
    "Haze": Haze,
    "Shadow": Shadow,
    "Bokeh": Bokeh,
    "Rain": Rain,
    "MotionBlur": MotionBlur,
    "GaussianBlur": GaussianBlur,
    "GaussianNoise": GaussianNoise,
    "PoissonNoise": PoissonNoise,
    "Jpeg": Jpeg,
    "Downsample": Downsample,
    "Mask": Mask,
    "MixedBlur": MixedBlur,
    "SincFilter": SincFilter,
    "MixedNoise": MixedNoise,
    "FirstOrder": FirstOrder,
    "SecondOrder": SecondOrder,
    "Chain": Chain,
}
"""YAML word -> class."""


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
