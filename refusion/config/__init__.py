"""Option files: YAML is converted to typed, frozen configs and checked before any work begins.

Import the names in `__all__` from here, `Component` and `FromTable` from `parser`, and the sections
of a file from `sections`. The package imports only `errors` and other base modules; networks and
datasets are looked up by their key when they are needed (`tables`). To add a key, add a field to a
dataclass in `sections`; a rule between sections belongs to `run` or `model`.
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
