"""Models as ONNX files, which other programs and `refusion.runtime` run without PyTorch.

`export_model` writes the calls of the networks of a checkpoint, with variable height and width, and
compares them with PyTorch. `tables` turns samplers into tables of coefficients, `description`
collects what a file says about itself. `local_graph` makes the whole method one graph for programs
that cut tiles, and `dtmodel` packs it for darktable. The package may be imported from `cli` only;
it imports `restorers` and all below. A new kind of network is a case in `graphs`, a new kind of
restoration is a part of the plan in `description`, which `refusion.runtime` reads.
"""

from __future__ import annotations

from refusion.export.dtmodel import Package, export_dtmodel
from refusion.export.exporting import Difference, Exported, export_model

__all__ = ["Difference", "Exported", "Package", "export_dtmodel", "export_model"]
