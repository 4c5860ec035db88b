"""Images and training data: reading and writing, datasets, degradations."""

from __future__ import annotations

from refusion.data.paired_folder import PairedFolder
from refusion.data.synthetic_haze import SyntheticHaze

DATASETS = {"SyntheticHaze": SyntheticHaze, "PairedFolder": PairedFolder}
"""YAML word -> dataset class."""
