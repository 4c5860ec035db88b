"""A run from Python, without the command: sets, reports and the progress file."""

import json
from pathlib import Path

import pytest
import torch

from refusion.checkpoint import read_checkpoint
from refusion.errors import ConfigError
from refusion.evaluation.options import RunOptions
from refusion.evaluation.outputs import Outputs
from refusion.evaluation.result_files import PROGRESS, make_folder, written_files
from refusion.evaluation.run import EvaluationRun
from refusion.evaluation.sets import EvaluationSet
from refusion.restorers import load_restorer


def photos(count=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 2, 3, 20, 14, generator=generator)
    return [{"lq": lq, "gt": gt, "name": f"sub/{n}"} for n, (lq, gt) in enumerate(images)]


def test_a_run_writes_what_the_outputs_name(tmp_path, tiny_checkpoint):
    checkpoint = read_checkpoint(tiny_checkpoint())
    restorer = load_restorer(tiny_checkpoint(), device="cpu", precision="fp32")
    outputs = Outputs(folder=tmp_path / "out", json=tmp_path / "new/r.json")
    options = RunOptions(steps=2, seed=3, limit=1, conditions={"lens": "wide"})
    chosen = EvaluationSet("a", photos(), tmp_path / "out/a", ())
    outputs.prepare([chosen])
    run = EvaluationRun(checkpoint, restorer, options, outputs)
    assert "mean of 1" in run.add(chosen)
    assert (tmp_path / "out/a" / PROGRESS).is_file()
    run.finish()
    report = json.loads(outputs.json.read_text(encoding="utf-8"))
    model = report["model"]
    assert (model["steps"], model["seed"], model["lens"], report["limit"]) == (2, 3, "wide", 1)
    assert [row["name"] for row in report["sets"]["a"]["images"]] == ["sub/0"]
    (files,) = written_files(chosen.folder, ["sub/0"])
    assert [path.relative_to(tmp_path) for path in files] == [Path("out/a/sub/0.png")]
    written = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["0.png", "r.json"]


def test_files_of_photos_with_one_name_differ(tmp_path):
    for name in ("x.png", "x_2_L.png", "x_2_R.png"):
        (tmp_path / name).touch()
    names = [[path.name for path in files] for files in written_files(tmp_path, ["x", "x", "y"])]
    assert names == [["x.png"], ["x_2_L.png", "x_2_R.png"], []]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b", "is not a possible name of a folder"),
        ("\ud800", "is not a possible name of a folder"),
        ("file", "is a file, expected a folder"),
        ("file/x", "Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_made(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"^--json: .*{message}"):
        make_folder("--json", tmp_path / name)
