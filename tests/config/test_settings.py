"""Settings of components: parameters of classes, functions and partial objects."""

import functools
from typing import Any

import pytest

from refusion.config.settings import REQUIRED, Setting, all_settings, constructor_settings
from refusion.errors import ConfigError


class Net:
    def __init__(self, width: int, depth: int = 2, *, act: "Unknown" = None):  # noqa: F821
        pass


class Plain:
    def __init__(self, width: int, depth: int = 2):
        pass


def function(data: int, *, loss: str = "l1") -> None:
    pass


def test_classes_and_functions():
    settings = {"width": Setting(int, REQUIRED), "depth": Setting(int, 2)}
    assert constructor_settings(Plain) == settings
    assert constructor_settings(Plain, ["width"]) == {"depth": Setting(int, 2)}
    assert constructor_settings(function) == {"loss": Setting(str, "l1")}
    assert constructor_settings(lambda data, *, k=1: data) == {"k": Setting(Any, 1)}


def test_settings_that_are_left_out_have_their_defaults():
    assert all_settings(Plain, {"width": 3}) == {"width": 3, "depth": 2}
    assert all_settings(Plain, {"depth": [1, 2]}) == {"depth": (1, 2)}
    assert all_settings(Plain, {"depth": 2, "width": 3}) == all_settings(Plain, {"width": 3})


def test_unreadable_annotations_accept_any_value():
    assert constructor_settings(Net)["width"] == Setting(Any, REQUIRED)
    assert set(constructor_settings(Net)) == {"width", "depth", "act"}


def test_a_partial_has_the_settings_that_it_leaves_open():
    partial = functools.partial(Plain, depth=5)
    assert constructor_settings(partial) == {
        "width": Setting(int, REQUIRED),
        "depth": Setting(int, 5),
    }
    assert constructor_settings(functools.partial(Plain, 3)) == {"depth": Setting(int, 2)}
    assert constructor_settings(functools.partial(function, loss="l2")) == {
        "loss": Setting(str, "l2")
    }


def test_an_object_without_annotations_accepts_any_value():
    class Callable:
        def __call__(self, data, *, k=1):
            pass

    assert constructor_settings(Callable()) == {"k": Setting(Any, 1)}


@pytest.mark.parametrize("entry", [dict, functools.partial(dict), 3])
def test_an_unreadable_signature_is_one_line(entry):
    with pytest.raises(ConfigError, match=r"table entry .* readable signature") as caught:
        constructor_settings(entry)
    assert "\n" not in str(caught.value)
