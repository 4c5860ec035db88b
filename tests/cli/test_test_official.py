"""`test.py -opt` with the authors' own option files and weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import yaml
from cli_cases import make, pixels, psnr

from refusion import cli

SETTING = {"width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command; exit code, sets of the report, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*argv):
        own = ["--device", "cpu", "--precision", "fp32", "--json", "r.json"]
        code = cli.test_main([*map(str, argv), *own])
        report = None if code else json.loads(Path("r.json").read_text(encoding="utf-8"))
        return code, report, capsys.readouterr().err

    return run


def write(folder, datasets, kind="pixel", *, sde, **more):
    """Option file and weights as the authors publish them."""
    weights = tiny_models.build(tiny_models.CONFIGS[kind]["network"]).state_dict()
    torch.save(weights, "their.pth")
    raw = {
        "name": "refusion", "model": "denoising", "gpu_ids": [0], "sde": sde, "datasets": datasets,
        "network_G": {"which_model_G": "ConditionalNAFNet", "setting": SETTING},
        "path": {"pretrain_model_G": "their.pth"}, **more,
    }  # fmt: skip
    path = Path(folder, "options/test/refusion.yml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_sets_with_and_without_ground_truth(call):
    for seed, name in enumerate(("lq/a.png", "gt/a.png")):
        make(name, seed=seed)
    sets = {
        "test1": {"name": "Rain 100", "mode": "LQGT", "dataroot_LQ": "lq", "dataroot_GT": "gt"},
        "test2": {"name": "real", "mode": "LQ", "dataroot_LQ": "lq"},
    }
    path = write(
        "deraining", sets, sde={"max_sigma": 50, "T": 4, "schedule": "cosine", "eps": 5e-3}
    )
    code, report, err = call("-opt", path, "--output", "out")
    assert (code, err) == (0, "")
    assert report["model"]["task"] == "derain"
    assert report["model"]["weights"] == "their.pth"
    assert (report["model"]["sampler"], report["model"]["steps"]) == ("euler", 4)
    measured, alone = report["sets"]["Rain_100"], report["sets"]["real"]
    expected = psnr("out/Rain_100/a.png", "gt/a.png")
    assert measured["images"][0]["result"]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert set(alone["images"][0]) == {"name", "seconds", "io_seconds"}
    assert Path("out/real/a.png").read_bytes() == Path("out/Rain_100/a.png").read_bytes()


def test_stereo_pairs_without_ground_truth(call):
    for seed, view in enumerate("LR"):
        make(f"lq/a_{view}.png", seed=seed)
    sets = {"test1": {"name": "Test", "mode": "SteLQ", "dataroot_LQ": "lq"}}
    sde, scale = {"max_sigma": 50, "T": 2}, {"degradation": {"scale": 2}}
    path = write("stereo-sr", sets, "stereo_sr", sde=sde, **scale)
    code, report, err = call("-opt", path, "--output", "out")
    assert (code, err) == (0, "")
    assert [set(row) for row in report["sets"]["Test"]["images"]] == [
        {"name", "seconds", "io_seconds"}
    ]
    assert pixels("out/Test/a_L.png").shape == pixels("out/Test/a_R.png").shape == (40, 28, 3)


def test_bokeh_without_ground_truth(call):
    make("val/src/00001.src.png")
    Path("val/meta.txt").write_text("00001, Sony50mmf1.8BS, Canon50mmf1.4BS, 35\n")
    roots = {"dataroot_LQ": "val/src", "dataroot_meta": "val/meta.txt"}
    sets = {"test1": {"name": "Test", "mode": "BokehLQ", **roots}}
    path = write("bokeh", sets, "lens", sde={"max_sigma": 50, "T": 2})
    code, report, err = call("-opt", path, "--output", "out")
    assert (code, err) == (0, "")
    assert [set(row) for row in report["sets"]["Test"]["images"]] == [
        {"name", "seconds", "io_seconds"}
    ]
    assert pixels("out/Test/00001.png").shape == (20, 14, 3)


def test_noise_is_made_as_the_file_says(call):
    make("clean/a.png")
    sets = {"test1": {"name": "McMaster", "mode": "GT", "dataroot_GT": "clean"}}
    noise = {"degradation": {"sigma": 25, "noise_type": "G"}}
    path = write("denoising-sde", sets, "denoise", sde={"max_sigma": 70, "T": 20}, **noise)
    code, report, err = call("-opt", path)
    assert (code, err) == (0, "")
    (row,) = report["sets"]["McMaster"]["images"]
    # Noise of 25 levels on photos is 20.17 dB.
    assert row["input"]["psnr"] == pytest.approx(20 * np.log10(255 / 25), abs=1.5)


def test_given_weights_replace_those_of_the_file(call, tiny_checkpoint):
    make("lq/a.png")
    sets = {"test1": {"name": "real", "mode": "LQ", "dataroot_LQ": "lq"}}
    path = write("deraining", sets, sde={"max_sigma": 50, "T": 4})
    weights = tiny_checkpoint("pixel")
    code, report, err = call("-opt", path, "--weights", weights)
    assert (code, err) == (0, "")
    assert report["model"]["weights"].endswith(Path(weights).name)
    assert report["model"]["weights"] != "their.pth"


def test_weights_and_sets_are_asked_for(call):
    make("lq/a.png")
    sde = {"max_sigma": 50, "T": 4}
    sets = {"test1": {"name": "real", "mode": "LQ", "dataroot_LQ": "lq"}}
    path = write("deraining", sets, sde=sde, path={"pretrain_model_G": None})
    code, _, err = call("-opt", path)
    assert code == 2
    assert "refusion.yml: path.pretrain_model_G: missing" in err
    code, _, err = call("-opt", write("deraining", {}, sde=sde))
    assert code == 2
    assert "datasets" in err
    sets["test1"]["dataroot_LQ"] = "absent"
    code, _, err = call("-opt", write("deraining", sets, sde=sde))
    assert code == 2
    assert "validation set 'real'" in err
    assert "'absent'" in err
    assert err.count("\n") == 1
