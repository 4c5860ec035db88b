"""Conditions: values of a wrong kind, and values that a model does not use, are one-line errors."""

import re

import numpy as np
import pytest
import tiny_models
import torch

from refusion import load_restorer
from refusion.errors import ConfigError
from refusion.restorers import Conditions, HazeOptions

NAN = float("nan")
IMAGE = np.linspace(0, 1, 12 * 16 * 3, dtype=np.float32).reshape(12, 16, 3)


@pytest.fixture
def restorer_of(tiny_checkpoint):
    return lambda kind: load_restorer(tiny_checkpoint(kind), device="cpu", precision="fp32")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("noise_std", True, "noise level: expected one number, got True"),
        ("noise_std", "25", "noise level: expected one number, got '25'"),
        ("noise_std", 1j, "noise level: expected one number, got 1j"),
        ("noise_std", [None], "noise level: expected one number, got [None]"),
        ("noise_std", torch.tensor([True]), "noise level: expected one number, got values of torc"),
        ("estimated_noise", np.array(["x"]), "estimated noise level: expected one number, got val"),
        ("lens", "wide", "lens: expected numbers, got 'wide'"),
        ("lens", [18, NAN, 1], "lens: expected finite values, got NaN or infinity among them"),
        ("guide", "map.png", "guide: expected numbers, got 'map.png'"),
        ("guide", np.zeros((1, 2, 3), bool), "guide: expected numbers, got values of bool, "),
        ("guide", torch.full((1, 2, 2), torch.inf), "guide: expected finite values"),
        ("prompt", 3, "prompt: expected a text or None, got 3"),
        ("haze", None, "haze: expected HazeOptions, got None"),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_kind_is_named(field, value, message):
    with pytest.raises(ConfigError, match=rf"^{re.escape(message)}[^\n]*$"):
        Conditions(**{field: value})


def test_arrays_and_lists_of_numbers_become_tensors():
    guide = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    given = Conditions([18, -14, 35], np.array([0.1, 0.2]), guide)
    assert given.lens.tolist() == [18, -14, 35]
    assert given.noise_std.tolist() == [0.1, 0.2]
    assert given.guide.dtype == torch.uint16 and given.guide.shape == (1, 3, 4)
    assert Conditions(noise_std=np.float32(0.5)).noise_std == 0.5


@pytest.mark.parametrize(
    ("kind", "conditions", "field"),
    [
        ("blind", {"noise_std": 0.1}, "noise_std"),
        ("blind", {"prompt": "a house"}, "prompt"),
        ("pixel", {"lens": tiny_models.LENS}, "lens"),
        ("pixel", {"guide": torch.zeros(2, 12, 16)}, "guide"),
        ("pixel", {"estimated_noise": [0.1]}, "estimated_noise"),
        ("denoise", {"noise_std": 0.1, "haze": HazeOptions(distance=0.5)}, "haze"),
        ("haze", {"noise_std": 0.1}, "noise_std"),
    ],
)
def test_an_image_is_not_restored_with_a_condition_that_has_no_use(
    restorer_of, kind, conditions, field
):
    restorer = restorer_of(kind)
    unused = rf"^{field}: the '\w+' model does not use it; leave it out of Conditions$"
    with pytest.raises(ConfigError, match=unused):
        restorer(IMAGE, conditions=Conditions(**conditions))


def test_conditions_that_a_model_uses_are_taken(restorer_of):
    for kind, conditions in (
        ("denoise", {"noise_std": 0.1}),
        ("denoise", {"estimated_noise": [0.1]}),
        ("lens", {"lens": tiny_models.LENS}),
        ("haze", {"haze": HazeOptions(distance=0.5)}),
    ):
        restorer_of(kind)(IMAGE, conditions=Conditions(**conditions))


def test_a_batch_takes_the_items_of_a_dataset_whatever_the_model_uses(restorer_of):
    restorer, lq = restorer_of("pixel"), torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    item = Conditions.from_item({"noise_std": torch.tensor([0.1])})
    assert torch.equal(restorer.restore(lq, conditions=item), restorer.restore(lq))


@pytest.mark.parametrize("wrong", [None, "denoise", {"noise_std": 0.1}])
def test_conditions_are_an_object_of_their_class(restorer_of, wrong):
    restorer, lq = restorer_of("pixel"), torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    message = r"^conditions: expected refusion\.restorers\.Conditions, got [^\n]+$"
    with pytest.raises(ConfigError, match=message):
        restorer(IMAGE, conditions=wrong)
    with pytest.raises(ConfigError, match=message):
        restorer.restore(lq, conditions=wrong)
