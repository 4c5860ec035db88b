"""Restores photos with ONNX files, in NumPy and without PyTorch.

`load_model` reads a file of `refusion export`; the result restores one photo as an array. All
numbers of the method (coefficients of samplers, limits, sizes) come from the file. The package
imports `images`, `weights` and base modules only and never torch; it may be imported from `export`
and `cli`. Each module does what a module of `restorers`, `tiling` or `images` does with tensors; a
new kind of restoration is a module here and a part of the plan in `refusion.export.description`.
"""

from __future__ import annotations

from refusion.runtime.model import OnnxModel, find_model, load_model

__all__ = ["OnnxModel", "find_model", "load_model"]
