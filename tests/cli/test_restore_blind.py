"""`tiled_infer.py` and `test.py` with a model that restores at once."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_models
import torch
import yaml
from cli_cases import make

from refusion import cli
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.restorers import load_restorer


@pytest.fixture(autouse=True)
def private_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def restore(weights, *argv):
    own = ["--weights", weights, "--precision", "fp32", "--device", "cpu"]
    return cli.restore_main([str(word) for word in (*argv, *own)])


@pytest.mark.parametrize("depth", [8, 16])
def test_a_photo_keeps_its_depth_and_is_what_the_restorer_makes(tiny_checkpoint, depth):
    weights, image = tiny_checkpoint("blind"), torch.rand(3, 37, 50)
    write_image("a.png", image, Photo(image, bit_depth=depth))
    assert restore(weights, "--input", "a.png", "--output", "b.png") == 0
    given, result = read_image("a.png"), read_image("b.png")
    assert result.bit_depth == depth
    restorer = load_restorer(weights, device="cpu", precision="fp32")
    expected = restorer.restore(given.image[None])[0]
    assert float((result.image - expected).abs().max()) < 0.6 / (2**depth - 1)


def test_tiles_and_a_log(tiny_checkpoint):
    make("in/a.png", 90, 70)
    argv = ["--input", "in", "--output", "out", "--tile", "32", "--log-file", "log.json"]
    assert restore(tiny_checkpoint("blind"), *argv) == 0
    assert read_image("out/a.png").image.shape == (3, 90, 70)
    assert "blind" in Path("log.json").read_text(encoding="utf-8")


def test_steps_are_refused_in_one_line(tiny_checkpoint, capsys):
    make("a.png")
    argv = ["--input", "a.png", "--output", "b.png", "--steps", "4"]
    assert restore(tiny_checkpoint("blind"), *argv) == 2
    err = capsys.readouterr().err
    assert "is a regression" in err and err.count("\n") == 1


def test_a_run_is_measured_by_its_options_file(tiny_checkpoint, tmp_path, capsys):
    make("gt/a.png", 48, 40)
    photos = {"type": "SyntheticPairs", "folders": ["gt"], "degradation": {"type": "SecondOrder"}}
    raw = tiny_models.BLIND | {
        "name": "tiny", "stage": "regression", "objective": {"type": "x0"},
        "data": {
            "train": photos,
            "validation": [photos | {"name": "held_out", "whole": True}],
            "batch_size": 1,
        },
        "train": {"steps": 1, "optimizer": {"type": "AdamW", "lr": 1e-4}},
    }  # fmt: skip
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    (tmp_path / "runs/tiny").mkdir(parents=True)
    shutil.copy(tiny_checkpoint("blind"), tmp_path / "runs/tiny/model.safetensors")
    argv = ["-opt", "tiny.yml", "--json", "r.json", "--device", "cpu", "--precision", "fp32"]
    assert cli.test_main(argv) == 0
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["model"]["task"] == "blind"
    row = report["sets"]["held_out"]["images"][0]
    assert 5 < row["input"]["psnr"] < 60
    assert "held_out" in capsys.readouterr().out
