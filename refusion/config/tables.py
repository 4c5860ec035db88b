"""Component tables by name: what the keys in an experiment file stand for.

A table is a dict that anyone may add to, in a file of this package or in a plug-in: see
`refusion.config.plugins` and docs/extending.md.
"""

from __future__ import annotations

import importlib

from refusion.arguments import check_arguments
from refusion.config.parser import Table
from refusion.config.plugins import import_allowed_plugins
from refusion.errors import ConfigError, short, suggest

_TABLES = {
    "nets": ("refusion.nets", "NETS"),
    "sdes": ("refusion.sde", "SDES"),
    "predictions": ("refusion.sde", "PREDICTIONS"),
    "objectives": ("refusion.sde", "OBJECTIVES"),
    "samplers": ("refusion.sde", "SAMPLERS"),
    "datasets": ("refusion.data", "DATASETS"),
    "degradations": ("refusion.synthesis.degradations", "DEGRADATIONS"),
    "metrics": ("refusion.metrics", "METRICS"),
    "stages": ("refusion.training.stages", "STAGES"),
}


def find_table(name: str) -> Table:
    """Find the component table `name`, with the entries of the plug-ins that are allowed.

    The module of the table is imported now, so that reading an experiment file imports PyTorch
    only if the file names a component.

    Raises:
        ConfigError: there is no such table, or the variable REFUSION_PLUGINS names a module that
            cannot be imported.
    """
    check_arguments(find_table, locals())
    import_allowed_plugins()
    if name not in _TABLES:
        raise ConfigError(f"name: unknown table {short(name)}{suggest(name, _TABLES)}")
    module, attribute = _TABLES[name]
    return getattr(importlib.import_module(module), attribute)
