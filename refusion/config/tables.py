"""Component tables by name: what the words of an experiment file stand for."""

from __future__ import annotations

import importlib

from refusion.config.parser import Table

_TABLES = {
    "nets": ("refusion.nets", "NETS"),
    "sdes": ("refusion.sde", "SDES"),
    "predictions": ("refusion.sde", "PREDICTIONS"),
    "objectives": ("refusion.sde", "OBJECTIVES"),
    "samplers": ("refusion.sde", "SAMPLERS"),
    "datasets": ("refusion.data", "DATASETS"),
    "degradations": ("refusion.synthesis.degradations", "DEGRADATIONS"),
}


def find_table(name: str) -> Table:
    """Import the component table `name`; late, so that reading this module costs no torch."""
    module, attribute = _TABLES[name]
    return getattr(importlib.import_module(module), attribute)
