"""Simplified graphs give the same results with fewer nodes."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import MODELS, checkpoint_of

from refusion.checkpoint import build_model
from refusion.export.graphs import graphs_of
from refusion.export.onnx_file import trace
from refusion.export.simplify import simplify

CHANNELS = 6


def model_of(nodes, constants=None, channels=CHANNELS, outputs=("y",)):
    """A graph from 'x' (1, channels, height, width) to its outputs."""
    arrays = {name: np.asarray(value) for name, value in (constants or {}).items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, "height", "width"])
    y = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list("nchw")) for name in outputs]
    graph = helper.make_graph(nodes, "test", [x], y, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def results(model, given):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {each.name: given[each.name] for each in session.get_inputs()})


def simplified(model):
    """The kinds of the nodes of the simplified graph, whose results are checked."""
    given = {"x": np.random.default_rng(0).random((1, CHANNELS, 4, 5), np.float32)}
    before = results(model, given)
    simplify(model)
    onnx.checker.check_model(model, full_check=True)
    for a, b in zip(before, results(model, given), strict=True):
        assert np.allclose(a, b, rtol=1e-6, atol=0)
    return [node.op_type for node in model.graph.node]


def node(kind, inputs, output="y", **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def half(start, end, output):
    return node("Slice", f"x {start} {end} axis", output)


NUMBERS = {str(n): np.array([n]) for n in range(7)} | {"axis": np.array([1])}


def test_constants_are_computed():
    nodes = [
        node("Constant", "", "two", value=numpy_helper.from_array(np.float32(2))),
        node("Exp", "two", "e"),
        node("Mul", "x e"),
    ]
    model = model_of(nodes)
    assert simplified(model) == ["Mul"]
    (stored,) = model.graph.initializer
    assert numpy_helper.to_array(stored) == pytest.approx(np.exp(np.float32(2)))


def test_a_constant_output_keeps_its_name():
    model = model_of([node("Exp", "c"), node("Mul", "x y", "z")], {"c": np.ones((1, 1, 1, 1), "f")},
                     outputs=("y", "z"))  # fmt: skip
    assert simplified(model) == ["Mul"]


def test_slices_without_an_axis_stay():
    model = model_of([node("Slice", "x 0 1")], {"0": np.array([0]), "1": np.array([1])})
    assert simplified(model) == ["Slice"]


def test_known_lengths_are_constants_and_unknown_ones_are_not():
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape which", "length"),
        node("Cast", "length", "number", to=TensorProto.FLOAT),
        node("Mul", "x number"),
    ]
    assert simplified(model_of(nodes, {"which": np.array(1)})) == ["Mul"]
    assert len(simplified(model_of(nodes, {"which": np.array(2)}))) == 4


def test_equal_nodes_become_one_and_useless_ones_go():
    nodes = [
        node("Relu", "x", "a"),
        node("Relu", "x", "b"),
        node("Cast", "b", "c", to=TensorProto.FLOAT),
        node("Identity", "a", "d"),
        node("Exp", "a", "unused"),
        node("Elu", "a", "e", alpha=0.5),
        node("Elu", "a", "f", alpha=0.25),
        node("Sum", "c d e f"),
    ]
    assert simplified(model_of(nodes)) == ["Relu", "Elu", "Elu", "Sum"]


def test_equal_outputs_of_the_graph_keep_their_names():
    model = model_of([node("Relu", "x", "y"), node("Relu", "x", "z")], outputs=("y", "z"))
    assert simplified(model) == ["Relu", "Relu"]


@pytest.mark.parametrize(
    ("parts", "is_split"),
    [
        ([(0, 3), (3, 6)], True),
        ([(3, 6), (0, 3)], True),
        ([(0, 2), (2, 3), (3, 6)], True),
        ([(0, 3), (4, 6)], False),  # a channel is missing
        ([(0, 4), (3, 6)], False),  # a channel comes twice
        ([(1, 3), (3, 6)], False),
        ([(0, 2), (2, 5)], False),
    ],
)
def test_slices_that_divide_the_channels_become_a_split(parts, is_split):
    slices = [half(*part, f"s{n}") for n, part in enumerate(parts)]
    names = " ".join(f"s{n}" for n in range(len(parts)))
    model = model_of([*slices, node("Concat", names, axis=1)], NUMBERS)
    expected = ["Split"] if is_split else ["Slice"] * len(parts)
    assert simplified(model) == [*expected, "Concat"]


def test_random_numbers_are_no_constants():
    nodes = [node("RandomNormal", "", "n", shape=[1]), node("Mul", "x n")]
    model = model_of(nodes)
    simplify(model)
    assert [each.op_type for each in model.graph.node] == ["RandomNormal", "Mul"]


@pytest.mark.parametrize("name", ["pixel", "blind", "dark", "unet"])
def test_networks_keep_results_and_weights(tmp_path, name):
    model = build_model(checkpoint_of(tmp_path, MODELS[name]))
    for graph in graphs_of(model)[:2]:
        traced = trace(graph, 18)
        small = onnx.ModelProto()
        small.CopyFrom(traced)
        simplify(small)
        assert len(small.graph.node) < len(traced.graph.node)
        example = graph.example(40, 48, 0)
        given = dict(zip(graph.inputs, (each.numpy() for each in example), strict=True))
        for a, b in zip(results(traced, given), results(small, given), strict=True):
            assert np.abs(a - b).max() <= 1e-6 * max(1, np.abs(a).max())
        before = {t.name: t.raw_data for t in traced.graph.initializer}
        kept = [t for t in small.graph.initializer if t.name in before]
        assert len(kept) > 5 and all(t.raw_data == before[t.name] for t in kept)
        count = len(small.graph.node)
        simplify(small)
        assert len(small.graph.node) == count
