"""`refusion test` from arguments to table, files and exit code, on tiny random models."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import yaml
from cli_cases import pixels, psnr
from PIL import Image

from refusion import cli

SIZES = [(40, 33), (25, 48), (32, 32)]  # width, height


@pytest.fixture(autouse=True)
def private_folders(tmp_path, monkeypatch):
    """Relative paths and the cache of decoded photos stay in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pairs(tmp_path):
    """Three pairs `lq/N_hazy.png`, `gt/N_GT.png`, the first in a sub-folder."""
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        folder = "sub/" if number == 0 else ""
        gt = rng.integers(0, 206, (height, width, 3), dtype=np.uint8)
        for name, photo in (("lq/{}_hazy.png", gt + np.uint8(50)), ("gt/{}_GT.png", gt)):
            path = tmp_path / name.replace("{}", f"{folder}{number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(path)
    return ["--lq", "lq", "--gt", "gt", "--lq-suffix", "_hazy", "--gt-suffix", "_GT"]


@pytest.fixture
def call(capsys):
    """Run the command; exit code, stdout, stderr."""

    def run(*argv):
        try:
            code = cli.test_main([*map(str, argv), "--device", "cpu", "--precision", "fp32"])
        except SystemExit as exit_:  # argparse
            code = exit_.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def trained(tmp_path, pairs, tiny_checkpoint):
    """Options file whose run has a checkpoint and that validates on two sets."""

    def make(**changes):
        suffixes = {"lq_suffix": "_hazy", "gt_suffix": "_GT"}
        paired = {"type": "PairedFolder", "lq": "lq", "gt": "gt", **suffixes}
        synthetic = {"type": "SyntheticPairs", "degradation": {"type": "Haze"}}
        haze = synthetic | {"folders": ["gt"], "whole": True}
        raw = {
            "name": "tiny", "task": "dehaze", "stage": "diffusion", "latent_unet": None,
            "network": tiny_models.CONFIGS["pixel"]["network"], **tiny_models.DIFFUSION,
            "objective": {"type": "x0"},
            "data": {
                "train": synthetic | {"folders": ["nowhere"]},
                "validation": [paired | {"name": "pairs"}, haze | {"name": "haze"}],
                "batch_size": 1,
            },
            "train": {"steps": 1, "optimizer": {"type": "Lion", "lr": 1e-4}},
        }  # fmt: skip
        (tmp_path / "tiny.yml").write_text(yaml.safe_dump(raw | changes), encoding="utf-8")
        (tmp_path / "runs/tiny").mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_checkpoint("pixel"), tmp_path / "runs/tiny/model.safetensors")
        return raw

    return make


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def one_line(err):
    assert err.startswith("refusion: error: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("kind", ["latent", "pixel"])
def test_numbers_are_those_of_the_written_files(call, pairs, tiny_checkpoint, kind):
    weights = tiny_checkpoint(kind)
    outputs = ["--output", "out", "--json", "new/result.json"]
    code, out, err = call("--weights", weights, *pairs, *outputs, "--seed", 3)
    assert (code, err) == (0, "")
    report = read_json("new/result.json")
    assert report["model"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert report["model"] | {"weights": None, "sha256": None} == {
        "task": "dehaze", "weights": None, "sha256": None, "sampler": "posterior", "steps": 3,
        "seed": 3, "tile": "auto", "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    assert report["model"]["weights"] == str(weights)
    result = report["sets"]["lq"]
    assert [row["name"] for row in result["images"]] == ["1", "2", "sub/0"]
    for row in result["images"]:
        name = row["name"]
        assert row["input"]["psnr"] == pytest.approx(20 * math.log10(255 / 50), abs=1e-4)
        expected = psnr(f"out/{name}.png", f"gt/{name}_GT.png")
        assert row["result"]["psnr"] == pytest.approx(expected, abs=1e-4)
        assert pixels(f"out/{name}.png").shape == pixels(f"lq/{name}_hazy.png").shape
        line = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1] == "14.15"
        assert line.split()[3] == f"{expected:.2f}"
    values = {row["name"]: row["result"]["psnr"] for row in result["images"]}
    assert result["mean"]["result"]["psnr"] == pytest.approx(np.mean(list(values.values())))
    assert result["worst"] == min(values, key=values.get)
    assert result["best"] == max(values, key=values.get)
    for word in ("mean of 3", f"worst: {result['worst']}", f"best: {result['best']}"):
        assert word in out
    assert [path.name for path in Path("new").iterdir()] == ["result.json"]


def test_any_sampler_is_measured(call, pairs, tiny_checkpoint):
    sampling = ("--sampler", "sde-data-2@log_snr", "--steps", "4")
    code, _, err = call("--weights", tiny_checkpoint(), *pairs, *sampling, "--json", "r.json")
    assert (code, err) == (0, "")
    model = read_json("r.json")["model"]
    assert (model["sampler"], model["steps"]) == ("sde-data-2@log_snr", 4)


def test_same_command_same_numbers_and_the_seed_matters(call, pairs, tiny_checkpoint):
    def numbers(*more):
        assert call("--weights", tiny_checkpoint(), *pairs, "--json", "r.json", *more)[0] == 0
        images = read_json("r.json")["sets"]["lq"]["images"]
        return {row["name"]: (row["input"], row["result"]) for row in images}

    first = numbers()
    assert numbers() == first
    assert numbers("--seed", 1) != first
    assert numbers("--steps", 1) != first
    assert numbers("--sampler", "ode") != first
    limited = numbers("--limit", 2)
    assert limited == {name: first[name] for name in ("1", "2")}


def test_without_ground_truth_pictures_and_times_only(call, pairs, tiny_checkpoint):
    lq_only = [*pairs[:2], *pairs[4:6]]
    weights = ["--weights", tiny_checkpoint()]
    code, out, _ = call(*weights, *lq_only, "--output", "out", "--json", "r.json")
    assert code == 0
    assert "psnr" not in out
    assert set(read_json("r.json")["sets"]["lq"]) == {"images", "mean"}
    call(*weights, *pairs, "--output", "measured")
    for name in ("1", "2", "sub/0"):
        assert np.array_equal(pixels(f"out/{name}.png"), pixels(f"measured/{name}.png"))


def test_max_side_shrinks_photos(call, pairs, tiny_checkpoint):
    code, *_ = call("--weights", tiny_checkpoint(), *pairs, "--max-side", 24, "--output", "out")
    assert code == 0
    assert pixels("out/sub/0.png").shape == (20, 24, 3)


def test_options_file_names_sets_and_checkpoint(call, trained):
    trained()
    code, out, err = call("-opt", "tiny.yml", "--json", "r.json", "--output", "out")
    assert (code, err) == (0, "")
    report = read_json("r.json")
    assert list(report["sets"]) == ["pairs", "haze"]
    assert report["model"]["weights"].endswith("model.safetensors")
    for name, folder, row in [("pairs", "pairs/1", 0), ("haze", "haze/1_GT", 0)]:
        expected = psnr(f"out/{folder}.png", "gt/1_GT.png")
        measured = report["sets"][name]["images"][row]["result"]["psnr"]
        assert measured == pytest.approx(expected, abs=1e-4)
    assert out.index("pairs\n") < out.index("haze\n")
    assert call("-opt", "tiny.yml", "--max-side", 16, "--output", "small")[0] == 0
    changed = ("--set", "data.validation.0.length=1", "--set", "data.validation.0.name=few")
    code, out, err = call("-opt", "tiny.yml", *changed)
    assert code == 0, err
    assert out.startswith("few\n") and "mean of 1 " in out
    assert max(pixels("small/haze/0_GT.png").shape) == 16


def test_data_and_weights_replace_those_of_the_file(call, trained, tiny_checkpoint, pairs):
    trained()
    Path("runs/tiny/model.safetensors").unlink()
    given = ["-opt", "tiny.yml", "--weights", tiny_checkpoint("latent"), *pairs[4:]]
    assert call(*given, "--data", "own=lq:gt", "--out", "out")[0] == 0
    report = read_json("out/scores.json")
    assert list(report["sets"]) == ["own"]
    assert report["model"]["weights"] == str(tiny_checkpoint("latent"))
    code, *_ = call("--weights", tiny_checkpoint("latent"), *pairs, "--json", "r.json")
    assert code == 0
    rows = [r["sets"][name]["images"] for r, name in ((report, "own"), (read_json("r.json"), "lq"))]
    assert [row["result"] for row in rows[0]] == [row["result"] for row in rows[1]]


def test_a_refused_output_leaves_no_folder_among_the_photos(call, pairs, tiny_checkpoint):
    assert call("--weights", tiny_checkpoint(), *pairs, "--output", "lq/out")[0] == 2
    assert not Path("lq/out").exists()


def test_run_without_weights_says_train_first(call, trained):
    trained(name="other")
    code, _, err = call("-opt", "tiny.yml")
    assert code == 2
    assert (
        "runs/other/model.safetensors: does not exist yet; run 'train.py -opt tiny.yml'"
        in one_line(err)
    )


def test_a_latent_unet_alone_is_refused(call, pairs, trained, tiny_checkpoint):
    code, out, err = call("--weights", tiny_checkpoint("unet"), *pairs)
    assert (code, out) == (2, "")
    assert "only a latent U-Net, which cannot restore photos; train stage diffusion" in one_line(
        err
    )
    unused = dict.fromkeys(("network", "sde", "prediction", "objective", "sampling"))
    trained(stage="latent_unet", latent_unet=tiny_models.UNET, **unused)
    code, _, err = call("-opt", "tiny.yml")
    assert code == 2
    assert "train stage diffusion first" in one_line(err)


def test_endless_validation_set_is_named(call, trained):
    raw = trained()
    endless = raw["data"]["train"] | {"name": "haze", "folders": ["gt"], "patch": 16}
    trained(data=raw["data"] | {"validation": [endless]})
    code, _, err = call("-opt", "tiny.yml")
    assert code == 2
    assert "endless" in one_line(err)
    trained(data=raw["data"] | {"validation": []})
    assert "data.validation is empty" in one_line(call("-opt", "tiny.yml")[2])
    trained(data=raw["data"] | {"validation": [endless | {"folders": ["missing"]}]})
    assert "validation set 'haze': folders: folder 'missing'" in one_line(
        call("-opt", "tiny.yml")[2]
    )


SUFFIXES = ["--lq-suffix", "_hazy", "--gt-suffix", "_GT"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "nothing to evaluate on"),
        (["--gt", "gt"], "nothing to evaluate on"),
        (["-opt", "absent.yml"], "absent.yml: no such file"),
        (["-opt", "x.yml", "--lq", "lq"], "--lq: -opt names"),
        (["--lq", "lq", "--set", "name=a"], "--set: needs -opt"),
        (["-opt", "x.yml", "--task", "dehaze"], "--task: -opt names"),
        (["--lq", "lq", "--data", "a=lq"], "--lq: --data names"),
        (["--data", "a=lq", "--data", "a=gt"], "--data: the same name twice"),
        (["--lq", "lq", "--html", "a.html"], "--html: needs --output"),
        (["--lq", "lq", "--weights", "PIXEL", "--baselines", "latent_unet"], "no latent U-Net"),
        (["-opt", "x.yml", "--noise-level", "25"], "--noise-level: -opt names"),
        (["-opt", "x.yml", "--from", "Sony50mmf1.8BS"], "--from: -opt names"),
        (["--lq", "lq", "--gt-suffix", "_GT"], "--gt-suffix: needs --gt"),
        (["--lq", "absent"], "lq: folder 'absent' does not exist"),
        (["--lq", "lq", "--gt", "gt"], "no partner"),
        (["--lq", "lq", "--gt", "gt", *SUFFIXES, "--sampler", "posteriro"], "mean 'posterior'"),
        (["--lq", "lq", "--sampler", "mean@karas"], "--sampler: mean@karas: unknown grid"),
        (["--lq", "lq", "--weights", "absent.safetensors"], "no such weights file"),
        (["--lq", "lq", "--weights", "text.txt"], "not a safetensors file"),
        (["--lq", "lq", "--task", "nonsense"], "no default weights"),
        (["--lq", "lq", "--output", "lq/out"], "--output: 'lq/out' lies in 'lq'"),
        (["--lq", "lq", "--output", "text.txt"], "--output: 'text.txt' is a file"),
        (["--lq", "lq", "--json", "lq"], "--json: 'lq': is a folder"),
        (["--lq", "broken", "--weights", "WEIGHTS"], "broken/photo.png"),
        (["--lq", "lq", "--weights", "WEIGHTS", "--steps", "1000"], "steps"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    call, pairs, tmp_path, tiny_checkpoint, argv, words
):
    (tmp_path / "text.txt").write_text("no weights")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/photo.png").write_bytes((tmp_path / "gt/1_GT.png").read_bytes()[:200])
    weights = {"WEIGHTS": tiny_checkpoint(), "PIXEL": tiny_checkpoint("pixel")}
    code, out, err = call(*(weights.get(word, word) for word in argv))
    assert (code, out) == (2, "")
    assert words in one_line(err)


@pytest.mark.parametrize("argv", [["--help"], ["--lq", "lq", "--data", "a=lq"]])
def test_help_and_usage_errors_do_not_wait_for_torch(argv):
    code = (
        "import sys, refusion.cli\n"
        "try: refusion.cli.test_main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    run = [sys.executable, "-c", code, *argv]
    assert subprocess.run(run, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("argv", [["--limit", "0"], ["--max-side", "x"], ["--tile", "-1"]])
def test_numbers_out_of_range_are_usage_errors(call, argv):
    code, _, err = call("--lq", "lq", *argv)
    assert code == 2
    assert "expected a whole number from 1" in err
    assert "Traceback" not in err


def test_a_failed_run_leaves_the_old_json(call, pairs, tmp_path, tiny_checkpoint):
    (tmp_path / "r.json").write_text("old")
    (tmp_path / "lq/1_hazy.png").write_bytes((tmp_path / "lq/1_hazy.png").read_bytes()[:300])
    code, _, err = call("--weights", tiny_checkpoint(), *pairs, "--json", "r.json")
    assert code == 2
    assert "1_hazy.png" in one_line(err)
    assert (tmp_path / "r.json").read_text() == "old"
