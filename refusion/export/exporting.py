"""Writes the networks of a weights file as ONNX files and compares them with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from refusion.arguments import check_arguments
from refusion.checkpoint import Checkpoint, build_model
from refusion.errors import ConfigError, RefusionError
from refusion.export.description import metadata, runtime_plan
from refusion.export.graphs import Graph, graphs_of
from refusion.export.onnx_file import (
    Storage,
    describe,
    import_onnx,
    link_weights,
    store_as_float16,
    trace,
)
from refusion.export.simplify import simplify
from refusion.files import atomic_write
from refusion.runtime.engines import DEFAULT, is_installed, start_engine

if TYPE_CHECKING:
    import onnx

SIZES = ((64, 96), (75, 133), (136, 40))
"""Height and width of the images on which a file is compared with PyTorch."""
TOLERANCE = 1e-3
"""Largest difference, as a share of the largest value of the output."""


@dataclass(frozen=True)
class Difference:
    """Difference of an ONNX file from PyTorch on an image.

    Attributes:
        height: rows of the image.
        width: columns of the image.
        largest: largest absolute difference of an output.
        value: largest absolute value of the outputs.
    """

    height: int
    width: int
    largest: float
    value: float


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written.

    Attributes:
        part: the call in it: 'network', or a part of the latent U-Net.
        path: the file.
        inputs: names of its inputs.
        outputs: names of its outputs.
        differences: from PyTorch, for each size; empty if the package onnxruntime is not
            installed.
        restores: whether `refusion.runtime` restores photos with the file.
    """

    part: str
    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    differences: tuple[Difference, ...]
    restores: bool


def export_model(
    checkpoint: Checkpoint,
    output: str | Path,
    *,
    opset: int = 18,
    storage: Storage = "float32",
    steps: int | None = None,
    sampler: str | None = None,
) -> list[Exported]:
    """Write the networks of a model as ONNX files with variable height and width.

    A model with a latent U-Net becomes five files: the network and the parts of the U-Net, whose
    names end in `.fine_encode.onnx` and so on. Each file is compared with PyTorch on three sizes
    before it gets its name.

    Args:
        checkpoint: content of the weights file.
        output: the file to write, `NAME.onnx`.
        opset: version of the operators of ONNX, 17 to 20.
        storage: how weights are stored, see `Storage`; 'linked' needs `output` in the folder of
            the weights file.
        steps: network evaluations of the table of the sampler; None for the model's default.
        sampler: key of `refusion.sde.SAMPLERS` for this table; None for the model's default.

    Returns:
        The files.

    Raises:
        ConfigError: an option is out of range or does not suit the model.
        RefusionError: the package onnx is missing, the network cannot be exported, or its results
            differ from those of PyTorch.
        CheckpointError: the tensors do not fit the networks of the config.
        OSError: the file cannot be written.
    """
    check_arguments(export_model, locals())
    output = Path(output)
    if output.suffix.lower() != ".onnx":
        raise ConfigError(f"output: '{output}': expected a name that ends in .onnx")
    if storage == "linked" and output.resolve().parent != checkpoint.path.resolve().parent:
        raise ConfigError(
            f"output: '{output}': a file with linked weights must be written to the folder of "
            f"'{checkpoint.path}'"
        )
    import_onnx()
    model = build_model(checkpoint)
    if model.network is None and (steps, sampler) != (None, None):
        raise ConfigError("steps, sampler: the model is a latent U-Net alone; leave them out")
    plan = runtime_plan(model, steps, sampler)
    written = []
    for number, graph in enumerate(graphs_of(model)):
        path = output if number == 0 else output.with_suffix(f".{graph.part}.onnx")
        own = plan if number == 0 else None
        texts = metadata(checkpoint, model, graph, own)
        file = trace(graph, opset)
        simplify(file)
        if storage == "float16":
            store_as_float16(file)
        elif storage == "linked":
            link_weights(file, checkpoint.path)
        describe(file, f"{checkpoint.model.task} {graph.part}", texts)
        differences = _write(file, path, graph)
        names = tuple(each.name for each in file.graph.input)
        written.append(
            Exported(graph.part, path, names, graph.outputs, differences, own is not None)
        )
    return written


def compare(
    path: Path, graph: Graph, sizes: Sequence[tuple[int, int]] = SIZES
) -> tuple[Difference, ...]:
    """Largest differences of an ONNX file from PyTorch on random images.

    Args:
        path: the ONNX file.
        graph: the call in it, on the CPU.
        sizes: height and width of each image, rounded down to a multiple of the graph's.

    Returns:
        One entry per size; empty if the package onnxruntime is not installed.

    Raises:
        RefusionError: the file cannot be loaded or run.
    """
    if not is_installed(DEFAULT):
        return ()
    engine = start_engine(path, DEFAULT)
    found = []
    for seed, size in enumerate(sizes):
        height, width = (max(1, side // graph.multiple) * graph.multiple for side in size)
        example = graph.example(height, width, seed)
        with torch.no_grad():
            expected = graph.module(*example)
        expected = expected if isinstance(expected, tuple) else (expected,)
        images = zip(graph.inputs, example, strict=True)
        given = {name: image.numpy() for name, image in images if name in engine.inputs}
        results = engine.run(graph.outputs, given)
        pairs = [(each.numpy(), own) for each, own in zip(expected, results, strict=True)]
        difference = max(float(np.abs(a - b).max()) for a, b in pairs)
        largest = max(float(np.abs(a).max()) for a, _ in pairs)
        found.append(Difference(height, width, difference, largest))
    return tuple(found)


def checked(path: Path, graph: Graph, output: Path) -> tuple[Difference, ...]:
    """The differences of an ONNX file from PyTorch, if they are small; see `compare`.

    Args:
        path: the ONNX file.
        graph: the call in it, on the CPU.
        output: the file that it becomes or becomes a part of, for the message.

    Raises:
        RefusionError: a difference is too large, or the file cannot be loaded or run.
    """
    differences = compare(path, graph)
    for each in differences:
        if not each.largest <= TOLERANCE * max(each.value, 1):
            raise RefusionError(
                f"{output}: not written, its result differs from that of PyTorch by "
                f"{each.largest:.3g} at {each.width}x{each.height}; use the weights file"
            )
    return differences


def _write(file: onnx.ModelProto, path: Path, graph: Graph) -> tuple[Difference, ...]:
    with atomic_write(path) as temporary:
        temporary.write_bytes(file.SerializeToString())
        return checked(temporary, graph, path)
