"""Simpler graphs: a traced graph computes at every start and in every call what is known before.

The results stay the same up to rounding; `refusion.export.exporting` compares them with PyTorch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

COMPUTED = "computed:"
"""Start of the names of constants that are no weights but results of nodes."""
_LARGEST = 2**14  # values of a result that is stored; larger ones take more space than their nodes
_MOVE = "Transpose"  # of a weight: the weight itself stays, so that it can be linked
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
           "Multinomial", "Dropout")  # fmt: skip
Dims = Mapping[str, Sequence[int | None]]
"""Lengths of the axes of tensors by name; None for those that depend on the photo."""
Types = Mapping[str, int]
"""Types of the values of tensors by name, of `onnx.TensorProto`."""


def simplify(model: onnx.ModelProto) -> None:
    """Remove nodes whose results are constants, are computed twice, or are not used.

    Slices that divide the channels of a tensor become one `Split`. Weights that are used as they
    are keep their names and values.

    Args:
        model: changed in place; its weights are stored inside.
    """
    count = None
    while count != len(model.graph.node):
        count = len(model.graph.node)
        _fold_constants(model)
        _merge_equal(model.graph, _known(model)[1])
        _drop_unused(model.graph)
    _split_channels(model.graph, _known(model)[0])
    _drop_unused(model.graph)
    for node in model.graph.node:
        node.name = node.doc_string = ""  # long, and nothing needs them


def _known(model: onnx.ModelProto) -> tuple[Dims, Types]:
    """What is known of the tensors of a graph."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    kinds = {each.name: each.type.tensor_type for each in (*graph.input, *graph.value_info)}
    dims = {
        name: [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        for name, kind in kinds.items()
        if kind.HasField("shape")
    }
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return dims, types | {name: kind.elem_type for name, kind in kinds.items()}


def _fold_constants(model: onnx.ModelProto) -> None:
    """Replace nodes by their results where these do not depend on the photo."""
    import onnx

    graph, (dims, _) = model.graph, _known(model)
    opsets = {each.domain: each.version for each in model.opset_import}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored, shapes, kept = set(values), {}, []
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in dims and not node.attribute:
            shapes[node.output[0]] = dims[node.input[0]]
        results = _known_lengths(node, values, shapes) or _evaluated(node, values, opsets)
        is_moved = node.op_type == _MOVE and node.input[0] in stored
        if results is None or is_moved or any(result.size > _LARGEST for result in results):
            kept.append(node)
        else:
            values.update(zip(node.output, results, strict=True))
    used = {name for node in kept for name in node.input}
    names = {name: f"{COMPUTED}{name}" for name in sorted(used & set(values) - stored)}
    names |= {each.name: each.name for each in graph.output if each.name in set(values) - stored}
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    made = (onnx.numpy_helper.from_array(values[name], new) for name, new in names.items())
    graph.initializer.extend(made)


def _known_lengths(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray], shapes: Dims
) -> list[np.ndarray] | None:
    """The result of a node that takes known lengths out of a shape."""
    if node.op_type == "Shape":
        lengths = shapes.get(node.output[0], [None])
    elif node.op_type == "Gather" and node.input[0] in shapes and node.input[1] in values:
        known = np.array(shapes[node.input[0]], dtype=object)
        lengths = known[values[node.input[1]]]
    else:
        return None
    is_known = all(length is not None for length in np.ravel(lengths))
    return [np.array(lengths, np.int64)] if is_known else None


def _evaluated(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> list[np.ndarray] | None:
    """The results of a node with constant inputs only."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    is_pure = node.op_type not in _RANDOM and not any(each.HasField("g") for each in node.attribute)
    if not is_pure or not all(name in values for name in node.input if name):
        return None
    kinds = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape
        )
        for name in dict.fromkeys(filter(None, node.input))
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    call = onnx.helper.make_graph([node], "node", kinds, outputs)
    given = {name: values[name] for name in node.input if name}
    return [np.asarray(each) for each in ReferenceEvaluator(call, opsets).run(None, given)]


def _merge_equal(graph: onnx.GraphProto, types: Types) -> None:
    """Nodes that compute the same from the same become one; those that change nothing go."""
    import onnx

    outputs = {each.name for each in graph.output}
    renamed, known, kept = {}, {}, []
    for tensor in graph.initializer:
        if tensor.dims and np.prod(tensor.dims) > 1:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        first = known.setdefault((value.dtype.str, value.shape, value.tobytes()), tensor.name)
        renamed[tensor.name] = first
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        bare.name = bare.doc_string = ""
        del bare.output[:]
        key = bare.SerializeToString(deterministic=True), len(node.output)
        if node.op_type in _RANDOM or outputs & set(node.output):
            kept.append(node)
        elif _changes_nothing(node, types):
            renamed[node.output[0]] = node.input[0]
        elif key in known:
            renamed.update(zip(node.output, known[key], strict=True))
        else:
            known[key] = tuple(node.output)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _changes_nothing(node: onnx.NodeProto, types: Types) -> bool:
    if node.op_type == "Identity":
        return True
    known = types.get(node.input[0]) if node.op_type == "Cast" else None
    return known is not None and known == _number(node, "to")


def _number(node: onnx.NodeProto, name: str) -> int | None:
    return next((each.i for each in node.attribute if each.name == name), None)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants whose results nothing uses."""
    used, kept = {each.name for each in graph.output}, []
    for node in reversed(graph.node):
        if used & set(node.output):
            used.update(node.input)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


def _split_channels(graph: onnx.GraphProto, dims: Dims) -> None:
    """Slices of channels that together are the whole tensor become one node."""
    import onnx

    values = {
        t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if np.prod(t.dims) < 2
    }
    slices = defaultdict(list)
    for node in graph.node:
        place = _channel_slice(node, values)
        if place is not None:
            slices[node.input[0]].append((*place, node))
    whole = {}  # the new node of each output
    for name, parts in slices.items():
        parts.sort(key=lambda part: part[:2])
        starts, ends = [part[0] for part in parts], [part[1] for part in parts]
        total = dims.get(name, [None, None])[1]
        if starts[0] or starts[1:] != ends[:-1] or total is None or ends[-1] < total:
            continue
        lengths = [b - a for a, b in pairwise([*starts, total])]
        sizes = onnx.numpy_helper.from_array(np.array(lengths), f"{name}.channels")
        graph.initializer.append(sizes)
        outputs = [part[2].output[0] for part in parts]
        split = onnx.helper.make_node("Split", [name, sizes.name], outputs, axis=1)
        whole |= dict.fromkeys(outputs, split)
    nodes = [whole.get(node.output[0], node) for node in graph.node]
    nodes = [*{id(node): node for node in nodes}.values()]  # each new one once
    del graph.node[:]
    graph.node.extend(nodes)


def _channel_slice(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray]
) -> tuple[int, int] | None:
    """First and last + 1 channel of a node that takes neighbouring channels."""
    has_axis = node.op_type == "Slice" and len(node.input) >= 4
    if not has_axis or not all(name in values for name in node.input[1:]):
        return None
    start, end, axis, *step = (values[name].ravel() for name in node.input[1:])
    is_simple = len(axis) == 1 and axis[0] == 1 and all(part[0] == 1 for part in step)
    return (int(start[0]), int(end[0])) if is_simple and start[0] >= 0 else None
