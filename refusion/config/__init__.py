"""Experiment files: from YAML to typed, frozen values, checked before any work begins.

Import from here: `load_config` and its siblings, `RunConfig`, `ModelConfig`, `find_table`. The
sections of a file are in `sections`, the parsing of plain values in `parser`. Imports only
`refusion.errors`; networks and datasets are looked up late, by their words (`tables`).
A new key goes into a dataclass of `sections`, a rule between sections into `stages` or `model`.
"""

from __future__ import annotations

from refusion.config.loading import (
    config_from_dict,
    config_to_dict,
    load_config,
    model_config,
    model_config_from_dict,
    read_yaml,
)
from refusion.config.model import ModelConfig
from refusion.config.run import RunConfig
from refusion.config.tables import find_table

__all__ = [
    "ModelConfig",
    "RunConfig",
    "config_from_dict",
    "config_to_dict",
    "find_table",
    "load_config",
    "model_config",
    "model_config_from_dict",
    "read_yaml",
]
