"""ONNX files: tracing a graph, the stored format of its weights, metadata."""

from __future__ import annotations

import io
import json
import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from refusion import __version__
from refusion.errors import CheckpointError, ConfigError, RefusionError, one_line
from refusion.export.graphs import Graph, axis_names
from refusion.export.simplify import COMPUTED
from refusion.files import open_regular

if TYPE_CHECKING:
    import onnx

INSTALL = "the package onnx is missing; install it with: pip install 'refusion[onnx]'"
OPSETS = range(17, 21)  # layer normalisation came with 17; the exporter of PyTorch knows 20
Storage = Literal["float32", "float16", "linked"]
"""How weights are stored: as float32; as float16, which the graph converts to float32 when it is
loaded; or not at all: the file names the places of the tensors in the weights file beside it."""

_TRACED = (61, 83)  # sides of the traced image: odd, so that no side has a special value
_SMALLEST = 16  # values of a tensor that is worth another format
_STORED = {"F32": "FLOAT", "F16": "FLOAT16", "BF16": "BFLOAT16"}  # of safetensors, in ONNX


def import_onnx() -> None:
    """Import the package onnx, which is not a part of every installation.

    Raises:
        RefusionError: it is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise RefusionError(INSTALL) from None


def trace(graph: Graph, opset: int) -> onnx.ModelProto:
    """The graph in ONNX, with float32 weights and variable height and width.

    Args:
        graph: the call of a network.
        opset: version of the operators, one of `OPSETS`.

    Raises:
        ConfigError: the opset is out of range.
        RefusionError: the network has an operation that ONNX does not have.
    """
    import onnx

    if opset not in OPSETS:
        raise ConfigError(f"opset: expected {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    buffer, sides = io.BytesIO(), [max(1, side // graph.multiple) for side in _TRACED]
    example = graph.example(*(side * graph.multiple for side in sides))
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of itself, and of constants, which the check of three sizes covers.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph.module,
                example,
                buffer,
                dynamo=False,
                opset_version=opset,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes=axis_names(graph),
                do_constant_folding=False,  # keeps names and values of the weights
            )
        except Exception as error:  # of many types, by the part of the exporter that fails
            kind = type(error).__name__
            raise RefusionError(
                f"{graph.part}: cannot be exported to ONNX ({kind}: {one_line(error, 200)})"
            ) from error
    return onnx.load_from_string(buffer.getvalue())


def store_as_float16(model: onnx.ModelProto) -> None:
    """Store the weights as float16; the graph converts them to float32 when it is loaded.

    Args:
        model: changed in place.

    Raises:
        CheckpointError: a weight is too large for float16.
    """
    import onnx

    weights = _large_weights(model)
    for tensor in weights:
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float16)
        if not np.isfinite(narrow).all():
            raise CheckpointError(
                f"{tensor.name}: has a value above 65504, the largest of float16; leave out --fp16"
            )
        tensor.CopyFrom(onnx.numpy_helper.from_array(narrow, tensor.name))
    _convert_when_loaded(model, [tensor.name for tensor in weights])


def link_weights(model: onnx.ModelProto, weights: Path) -> None:
    """Replace the weights by references to the tensors of a safetensors file.

    Args:
        model: changed in place; its weights have the names of the tensors. Other constants stay
            in it.
        weights: the file, which must lie in the folder of the ONNX file.

    Raises:
        CheckpointError: a tensor is missing in the file, or has another type or size.
    """
    import onnx

    start, entries = _outline(weights)
    narrow = []
    for tensor in _large_weights(model):
        entry = entries.get(tensor.name)
        if entry is None or entry["shape"] != list(tensor.dims) or entry["dtype"] not in _STORED:
            raise CheckpointError(
                f"{weights}: has no tensor {tensor.name} that an ONNX file can refer to"
            )
        first, end = entry["data_offsets"]
        place = {"location": weights.name, "offset": start + first, "length": end - first}
        tensor.ClearField("raw_data")
        tensor.data_type = getattr(onnx.TensorProto, _STORED[entry["dtype"]])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        if entry["dtype"] != "F32":
            narrow.append(tensor.name)
    _convert_when_loaded(model, narrow)


def describe(model: onnx.ModelProto, title: str, metadata: Mapping[str, str]) -> None:
    """Write the name of the graph, its producer and the metadata.

    Args:
        model: changed in place.
        title: name of the graph.
        metadata: texts by key.
    """
    import onnx

    model.graph.name = title
    model.producer_name, model.producer_version = "refusion", __version__
    onnx.helper.set_model_props(model, dict(metadata))


def _large_weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    import onnx

    floats = (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    weights = (tensor for tensor in floats if not tensor.name.startswith(COMPUTED))
    return [tensor for tensor in weights if np.prod(tensor.dims) >= _SMALLEST]


def _convert_when_loaded(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Add conversions of weights to float32, whose results are used in place of the weights."""
    import onnx

    wide = {name: f"{name}.float32" for name in names}
    for node in model.graph.node:
        for index, used in enumerate(node.input):
            node.input[index] = wide.get(used, used)
    to = onnx.TensorProto.FLOAT
    casts = [onnx.helper.make_node("Cast", [a], [b], name=b, to=to) for a, b in wide.items()]
    nodes = [*casts, *model.graph.node]  # a node comes after those whose results it uses
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _outline(weights: Path) -> tuple[int, dict[str, dict[str, object]]]:
    """Start of the data of a safetensors file in bytes, and its tensors by name."""
    with open_regular(weights) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return 8 + length, json.loads(file.read(length))
