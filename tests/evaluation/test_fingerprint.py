"""The fingerprint of a run: it changes with everything that the scores depend on."""

import dataclasses
import json
from pathlib import Path

import pytest

from refusion.evaluation.fingerprint import fingerprint
from refusion.evaluation.learned_metrics import MetricFiles
from refusion.evaluation.options import RunOptions
from refusion.evaluation.sets import EvaluationSet
from refusion.restorers.base import RestorerInfo

OTHER = {
    "steps": 5,
    "sampler": "ode",
    "seed": 1,
    "tile": 64,
    "limit": 2,
    "max_side": 32,
    "crop_border": 4,
    "baselines": ("dark_channel",),
    "metric_files": MetricFiles(niqe=Path("n.npz")),
    "conditions": {"noise_level": 25.0},
    "file": Path("a.yml"),
    "plugins": ("my_nets",),
}
INFO = RestorerInfo(
    "Refusion", "bokeh", 1, 1, frozenset({"lens", "guide"}), True, "ode", 4, 1, "exact", "cpu",
    "fp32",
)  # fmt: skip


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Arguments of `fingerprint`: weights, information, options, set."""
    monkeypatch.chdir(tmp_path)
    for name in ("w.safetensors", "a.yml", "lq/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    chosen = EvaluationSet("a", [], Path("out"), (Path("lq"),), {"lq_suffix": "_x", "seed": 0})
    return {
        "weights": Path("w.safetensors"), "info": INFO, "options": RunOptions(), "chosen": chosen,
    }  # fmt: skip


def text(parts):
    return json.dumps(fingerprint(**parts), sort_keys=True)


def test_every_option_has_a_case():
    assert set(OTHER) == {field.name for field in dataclasses.fields(RunOptions)}


@pytest.mark.parametrize("name", OTHER)
def test_each_option_changes_it(parts, name):
    options = dataclasses.replace(RunOptions(), **{name: OTHER[name]})
    assert text(parts | {"options": options}) != text(parts)


@pytest.mark.parametrize("file", ["w.safetensors", "a.yml", "lq/a.png", "lq/b.png"])
def test_the_content_of_each_file_changes_it(parts, file):
    parts["options"] = RunOptions(file=Path("a.yml"))
    before = text(parts)
    assert text(parts) == before
    Path(file).write_text("other")
    assert text(parts) != before


def test_restorer_and_settings_of_the_set_change_it(parts):
    before = text(parts)
    slower = dataclasses.replace(INFO, precision="bf16")
    assert text(parts | {"info": slower}) != before
    other = dataclasses.replace(parts["chosen"], settings={"lq_suffix": "_y", "seed": 0})
    assert text(parts | {"chosen": other}) != before


def test_it_is_the_same_in_every_process(parts):
    assert fingerprint(**parts)["restorer"]["needs"] == ["guide", "lens"]  # a set has no order
