"""Images and training data: reading and writing, datasets, degradations."""

from __future__ import annotations

from refusion.data.bokeh_folder import BokehFolder
from refusion.data.paired_folder import PairedFolder
from refusion.data.stereo_folder import StereoFolder
from refusion.data.synthetic_pairs import SyntheticPairs

DATASETS = {
    "SyntheticPairs": SyntheticPairs,
    "PairedFolder": PairedFolder,
    "StereoFolder": StereoFolder,
    "BokehFolder": BokehFolder,
}
"""YAML key -> dataset class."""
