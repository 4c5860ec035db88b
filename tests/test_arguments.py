"""Arguments from Python code: wrong ones give one line that names them, good ones pass."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pytest
import torch
from torch import Tensor

import refusion
from refusion import nets, operators, sde
from refusion.arguments import check_arguments, is_between, is_whole
from refusion.errors import ConfigError, RefusionError
from refusion.hints import Blocks, Bound, Channels, Length, Levels, Positive, Share

NAN = float("nan")
ARRAY = np.zeros((2, 3))
STRANGE = [None, "x", -1, NAN, ARRAY, 1.5, [], [1.5], {}, object(), 1j]
IMAGE = torch.rand(1, 3, 16, 16)


class Named(Protocol):
    def name(self): ...


def check(hint, value):
    def function(value): ...

    function.__annotations__ = {"value": hint, "return": None}
    check_arguments(function, {"value": value, "return": 3, "other": 3})


@pytest.mark.parametrize(
    ("hint", "good", "bad", "expected"),
    [
        (int, [0, -5, np.int64(3)], [None, True, 1.0, NAN, "1", ARRAY], "a whole number"),
        (float, [0, 1.5, np.float32(2), math.inf], [None, True, NAN, "1", 1j], "a number"),
        (Channels, [1, 4096], [0, 4097, 2.0], "a whole number at least 1 and at most 4096"),
        (Positive, [1e-9, 5], [0, -1, NAN, math.inf], "a number above 0"),
        (Share | None, [None, 0, 1], ["", 1.1], "a number at least 0 and at most 1 or None"),
        (bool, [True, False], [None, 1, 0, "yes"], "True or False"),
        (str, ["", "a"], [None, b"a", 1], "a text"),
        (Literal["a", 2], ["a", 2], ["b", 2.0, None, ARRAY], "'a' or 2"),
        (Levels, [(1, 2), [256]], [[], [-1], 1, "12", (1,) * 9, [None], ARRAY], "a list of 1 to 8"),
        (Sequence[str], [[], ("a",)], ["a", [1]], "a list of values, each a text"),
        (tuple[int, int], [(1, 2), [1, 2]], [(1,), (1, 2, 3)], "a list of 2 values, each a whole"),
        (tuple[Blocks, ...], [(), (1, 2)], [(-1,), 3], "a list of values, each a whole number"),
        (Annotated[Sequence[int], Bound(1), Length(0, 2)], [[], [1]], [[0], [1, 1, 1]], "a list o"),
        (Mapping[str, int], [{}, {"a": 1}], [[1], {"a": "b"}, None], "a dict of names, with a who"),
        (Mapping[str, Any], [{}, {"a": None}], [[1], None], "a dict of names, got"),
        (Callable[[int], int], [abs, str], [1, None], "a function"),
        (Tensor | None, [IMAGE, None], [ARRAY, 1], "a Tensor or None"),
    ],
)
def test_a_value_is_checked_by_its_annotation(hint, good, bad, expected):
    for value in good:
        check(hint, value)
    for value in bad:
        with pytest.raises(ConfigError, match=r"^[^\n]+$") as caught:
            check(hint, value)
        assert str(caught.value).startswith(f"value: expected {expected}")
        assert ", got " in str(caught.value)


@pytest.mark.parametrize("hint", [Any, Named, object, "Unknown", "Tensor | Unknown"])
def test_annotations_without_a_check_accept_anything(hint):
    for value in STRANGE:
        check(hint, value)


def test_one_unknown_name_does_not_hide_the_others():
    def function(one, two): ...

    function.__annotations__ = {"one": "Unknown", "two": "Tensor"}
    check_arguments(function, {"one": 1, "two": IMAGE})
    with pytest.raises(ConfigError, match="two: expected a Tensor, got 2"):
        check_arguments(function, {"one": 1, "two": 2})


@pytest.mark.parametrize("value", [None, True, "1", 1j, NAN, ARRAY, [0.5]])
def test_numbers_are_neither_truth_values_nor_arrays(value):
    assert not is_between(value, 0, 2)
    assert not is_whole(value)


def test_limits_are_included():
    assert is_between(0, 0, 1) and is_between(np.float64(1), 0, 1) and not is_between(1.1, 0, 1)
    assert is_whole(np.int32(-3)) and not is_whole(1.0)


@pytest.mark.parametrize("net", nets.NETS.values(), ids=nets.NETS)
def test_every_setting_of_a_network_is_checked_before_it_is_built(net):
    for name in net.__init__.__kwdefaults__:
        for value in (NAN, ARRAY, {}, object()):
            with pytest.raises(ConfigError, match=rf"^{name}: expected [^\n]*, got [^\n]*$"):
                net(**{name: value})


@pytest.mark.parametrize("name", operators.OPERATORS)
def test_an_operator_names_a_wrong_argument(name):
    operator = operators.OPERATORS[name]
    values = {"image_shape": (3, 8, 8), "factor": 2, "share": 0.5, "border": "reflect"}
    values |= {"generator": torch.Generator(), "weights": (1, 1, 1), "across": torch.ones(3)}
    kept = torch.ones(8, 8, dtype=torch.bool)
    values |= {"kept": kept, "kernel": torch.ones(3, 3), "down": torch.ones(3)}
    values |= {"matrix": torch.ones(2, 192)}
    names = [name for name in operator.__init__.__annotations__ if name != "return"]
    for wrong in names:
        given = {key: values[key] for key in names} | {wrong: object()}
        with pytest.raises(ConfigError, match=rf"^{wrong}: expected .*, got <object object"):
            operator(**given)


class Same:
    def restore(self, lq, **_):
        return lq


@pytest.mark.parametrize("value", [None, "x", [1], 1, {"a": 1}, ARRAY])
@pytest.mark.parametrize("name", ["metrics", "baselines", "write", "callback", "previous_scores"])
def test_evaluate_names_a_wrong_argument(name, value):
    if value is None and name in ("write", "callback"):
        return
    photos = [{"lq": IMAGE[0], "gt": IMAGE[0]}]
    with pytest.raises(ConfigError, match=rf"^{name}: expected [^\n]+, got [^\n]+$"):
        refusion.evaluate(Same(), photos, **{name: value})


@pytest.mark.parametrize("border", [None, ARRAY, "2", -1, NAN, [1]])
def test_a_border_that_is_no_number_is_one_line(border):
    for measure in (refusion.metrics.measure, refusion.metrics.psnr, refusion.metrics.ssim):
        with pytest.raises(RefusionError, match=r"^crop_border: expected 0 <= border[^\n]+$"):
            measure(IMAGE, IMAGE, crop_border=border)


@pytest.mark.parametrize("value", STRANGE)
def test_images_of_a_metric_are_tensors(value):
    metric = refusion.metrics
    for measure in (metric.psnr, metric.ssim, metric.ciede2000, metric.score_pair):
        with pytest.raises(RefusionError, match=r"^image: expected [^\n]+$"):
            measure(value, IMAGE)
        with pytest.raises(RefusionError, match=r"^target: expected [^\n]+$"):
            measure(IMAGE, 3.0 if value is None else value)


@pytest.mark.parametrize("value", [None, "x", NAN, ARRAY, [], {}, object()])
def test_processes_and_grids_name_a_wrong_argument(value):
    calls = {
        "beta_first": lambda: sde.VPSDE(beta_first=value),
        "gamma": lambda: sde.UniDB(max_sigma=50, gamma=value),
        "steps": lambda: sde.time_grid(10, value),
        "prediction": lambda: sde.estimate(sde.IRSDE(50), value, IMAGE, IMAGE, IMAGE, 3),
    }
    for name, call in calls.items():
        with pytest.raises(ConfigError, match=rf"^{name}: [^\n]+$"):
            call()
    if not isinstance(value, str):
        with pytest.raises(ConfigError, match=r"^word: expected a text, got "):
            sde.find_sampler(value)
