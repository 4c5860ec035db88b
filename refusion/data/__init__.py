"""Datasets: pairs of a degraded and a clean photo, for training and for evaluation.

Import `DATASETS` and the dataset classes from here; `restorers` and all higher packages may import
them. A new dataset is one file in this package and one entry in `DATASETS`; most derive from
`stream.PhotoStream`. docs/extending.md shows an entry in a module outside this package.
"""

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
"""Key of the YAML file -> class; the name of the class is the key."""
