"""The plan in an ONNX file from an unknown source: every value has its type and its range."""

import numpy as np
import pytest

from refusion.errors import ConfigError, RefusionError
from refusion.runtime import OnnxModel
from refusion.runtime.description import read_description
from refusion.runtime.plan import is_valid
from refusion.weights import FOLDER

HAZE_PLAN = {
    "limits": [0.02, 0.04],
    "window": 0.1,
    "smoothness": 0.05,
    "min_transmission": 0.1,
    "gamma": 2.2,
    "largest_gain": 2.0,
}
ONE_STEP = {"columns": ["mu"], "times": [1], "rows": [[1]]}
NOISE_PLAN = {"limits": [], "largest": 0.3, "block": 64, "most_blocks": 9, "smooth_share": 0.1,
              "coarse_share": 0.5, "negligible": 0.001, "flat": 0.1, "most_flat": 0.5,
              "penalty": 1}  # fmt: skip
CHANGE_PLAN = {"limits": [0.1, 0.4], "side": 48, "radius": 2, "dark": 0.1}
SHADOW_PLAN = {"limits": [1.5, 2.0], "around": [1, 6], "bright": 0.9, "darkest": 0.5, "reach": 3,
               "least": 12, "clear": [0.25, 0.55], "weakness": 0.8, "eps": 1e-6}  # fmt: skip
_SHARES = ("largest", "smooth_share", "coarse_share", "negligible", "flat", "most_flat")
DAMAGES = [
    ("task", 1),
    ("tile", 0),
    ("tile", 1e9),
    ("flat", [1]),
    ("strengths", [1, 0]),
    ("copy", {"side": 48}),
    ("copy", {"side": 48, "window": 8, "smoothness": 0.1}),
    ("haze", {}),
    ("haze", {"limits": [0.02, 0.04], "window": 1e9, "smoothness": 0.05, "min_transmission": 0.1}),
    ("copy", {"side": 48, "window": 9, "smoothness": 1e308}),
    ("copy", {"side": 48, "window": 99_999, "smoothness": 0.1}),
    ("copy", {"side": 48, "window": 9.0, "smoothness": 0.1}),
    ("flat", [0.1, 0.1]),
    ("haze", HAZE_PLAN | {"gamma": 1e-300}),
    ("haze", HAZE_PLAN | {"min_transmission": 2}),
    ("haze", HAZE_PLAN | {"limits": [0.04, 0.04]}),
    ("change", {"limits": [0, 0.4], "side": 48, "radius": 2, "dark": 0.1}),
    ("change", {"limits": [0.1, 0.4], "side": 48, "radius": 2.5, "dark": 0.1}),
    ("process", {"start_std": 0.1, "tables": [ONE_STEP], "noise": NOISE_PLAN | {"block": 64.5}}),
    ("flat", [-0.1, 0.1]),
    ("flat", [0.1, 1.1]),
    ("flat", [0.1, float("nan")]),
    ("flat", [0.1, 10**400]),
    ("strengths", [0, 1e9]),
    ("strengths", [-3, 1]),
    ("haze", HAZE_PLAN | {"limits": [-0.04, 0.04]}),
    ("haze", HAZE_PLAN | {"limits": [0.04, 5]}),
    ("haze", HAZE_PLAN | {"limits": [0.04, float("inf")]}),
    ("haze", HAZE_PLAN | {"limits": [0.04, 10**400]}),
    ("haze", HAZE_PLAN | {"smoothness": float("nan")}),
    ("change", {"limits": [0.1, 1e5], "side": 48, "radius": 2, "dark": 0.1}),
    ("change", {"limits": [0.1, 0.4], "side": 48, "radius": 2, "dark": 5}),
    ("change", {"limits": [0.1, 0.4], "side": 48, "radius": 900, "dark": 0.1}),
    ("change", {"limits": [0.1, 0.4], "side": 10**6, "radius": 2, "dark": 0.1}),
    *(
        ("change", CHANGE_PLAN | {"shadow": SHADOW_PLAN | {key: wrong}})
        for key, wrongs in {
            "limits": ([2.0, 1.5], [0, 1.5], [1.5, float("nan")]),
            "around": ([6, 6], [0, 6], [1, 900], [1.0, 6.0], 6),
            "bright": (0.0, 1.5, float("nan"), None),
            "darkest": (0.0, 2.0, "1"),
            "reach": (0, 2.5, 900),
            "least": (0, 10**9),
            "clear": ([0.5, 0.5], [0, 0.5], [0.25], None),
            "weakness": (0.0, 1.5, 1),
            "eps": (0.0, 1, float("inf")),
        }.items()
        for wrong in wrongs
    ),
    *(
        ("process", {"start_std": 0.1, "tables": [ONE_STEP], "noise": NOISE_PLAN | {key: wrong}})
        for key in NOISE_PLAN
        if key != "limits"
        for wrong in (
            0,
            -1,
            float("nan"),
            float("inf"),
            10**400,
            "1",
            None,
            *[2] * (key in _SHARES),
        )
    ),
    *(
        (
            "process",
            {"start_std": 0.1, "tables": [ONE_STEP] * 3, "noise": NOISE_PLAN | {"limits": limits}},
        )
        for limits in ([-0.1, 0.1], [0.1, 3.0], [0.2, 0.1], [0.1, float("nan")])
    ),
    ("process", {"start_std": 0.1, "tables": [ONE_STEP | {"times": [10**400]}]}),
    ("process", {"start_std": 0.1, "tables": [ONE_STEP | {"rows": [[1e300]]}]}),
    ("process", {"start_std": float("nan"), "tables": [ONE_STEP]}),
    (
        "process",
        {"start_std": 0.1, "tables": [{"columns": ["mu"] * 99, "times": [1], "rows": [[1] * 99]}]},
    ),
    ("process", {}),
    ("process", []),
    ("process", {"tables": []}),
    ("process", {"start_std": 0.1, "tables": [{"columns": ["x"], "times": [1], "rows": [[1]]}]}),
    ("process", {"start_std": 0.1, "tables": [{"columns": ["mu"], "times": [1], "rows": [[]]}]}),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
@pytest.mark.parametrize("name", ["deshadow", "denoise"])
def test_damaged_plans_are_found(name, damage):
    plan = read_description(FOLDER / f"{name}.onnx")["runtime"]
    assert is_valid(plan)
    assert is_valid(plan | {"haze": HAZE_PLAN})
    assert is_valid(plan | {"change": CHANGE_PLAN | {"shadow": SHADOW_PLAN}})
    assert is_valid(plan | {"process": {"start_std": 0.1, "tables": [ONE_STEP],
                                        "noise": NOISE_PLAN}})  # fmt: skip
    assert not is_valid(plan | dict([damage]))
    assert not is_valid({key: value for key, value in plan.items() if key != "flat"})
    assert not is_valid([plan]) and not is_valid("plan")


@pytest.mark.parametrize(
    "plan", [{}, {"task": "denoise"}, {"task": 1, "strengths": [0, 1]}], ids=str
)
def test_a_model_is_not_made_of_a_wrong_plan(plan):
    with pytest.raises(ConfigError, match="plan: expected part 'runtime'"):
        OnnxModel(print, plan)


def test_a_plan_of_another_model_is_refused_in_one_line():
    class HazeGraph:
        inputs = ("mu",)

    plan = read_description(FOLDER / "dehaze.onnx")["runtime"]
    model = OnnxModel(HazeGraph(), {key: plan[key] for key in plan if key != "haze"})
    photo = np.arange(40 * 50 * 3, dtype=np.uint16).reshape(40, 50, 3)
    with pytest.raises(RefusionError, match="takes no photo: its plan is that of another model"):
        model(photo * 10)
