"""`--dry-run` and `--dump-pairs` of `refusion train`."""

import dataclasses
import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from training_cases import make_photos, run_config

from refusion.cli.train import run
from refusion.config import config_from_dict, config_to_dict
from refusion.devices.processes import World
from refusion.training.loading import training_set
from refusion.training.preview import describe, measure_step
from refusion.training.stages import build_stage

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path):
    return run_config("diffusion", make_photos(tmp_path / "photos"), tmp_path / "cache")


@pytest.fixture
def options(config, tmp_path):
    path = tmp_path / "run.yml"
    path.write_text(yaml.safe_dump(config_to_dict(config)))
    return ["-opt", str(path), "--runs", str(tmp_path / "runs"), "--quiet", "--device", "cpu"]


def test_a_dry_run_prints_the_options_and_the_size_and_writes_nothing(
    config, options, tmp_path, capsys
):
    before = sorted(tmp_path.rglob("*"))
    assert run([*options, "--dry-run", "--minutes", "9", "--set", "data.batch_size=6"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    text = capsys.readouterr().out
    shown = config_from_dict(yaml.safe_load(text))  # the other lines are comments
    assert (shown.train.minutes, shown.data.batch_size) == (9.0, 6)
    assert shown.network == config.network
    count = sum(each.numel() for each in build_stage(config, CPU).module.parameters())
    assert f"# parameters: {count:,} trained, 0 frozen" in text
    assert re.search(r"# one step: 0\.0\d+ GFLOP for 6 samples, fp32 on cpu", text)
    assert re.search(r"# memory: [\d.]+ MiB = [\d.]+ MiB for weights", text)


def test_operations_and_memory_of_one_layer_are_counted(config):
    class OneLayer:
        def __init__(self):
            self.fixed = {"x": torch.zeros(7)}
            self.module = torch.nn.Conv2d(3, 8, 3, bias=False)

        def loss(self, batch, generators):
            return {"total": self.module(batch["lq"]).square().sum()}

    batch = {"lq": torch.rand(1, 3, 18, 18)}
    size = measure_step(config, OneLayer(), batch, CPU, 6)
    assert (size.parameters, size.frozen) == (3 * 8 * 9, 7)
    forward = 2 * 16 * 16 * 8 * 3 * 9
    assert size.flops == 2 * forward  # the gradient of the weights, none of the photo
    assert size.saved == 4 * (3 * 18 * 18 + 8 * 16 * 16)  # inputs of the two operations
    assert size.shared == 0


@pytest.mark.parametrize(("precision", "width"), [("fp32", 4), ("bf16", 2)])
def test_memory_that_does_not_grow_with_the_batch_is_counted_once(config, precision, width):
    class FrozenAfterTrained:
        def __init__(self):
            self.fixed = {}
            self.module = torch.nn.Conv2d(3, 8, 1, bias=False)
            self.frozen = torch.nn.Conv2d(8, 5, 1, bias=False).requires_grad_(False)

        def loss(self, batch, generators):
            return {"total": self.frozen(self.module(batch["lq"])).sum()}

    def size_of(count):
        train = dataclasses.replace(config.train, precision=precision)
        changed = dataclasses.replace(config, train=train)
        batch = {"lq": torch.rand(1, 3, 18, 18)}
        return measure_step(changed, FrozenAfterTrained(), batch, CPU, count)

    one, many = size_of(1), size_of(6)
    weights = width * 8 * 5 + (width * 3 * 8 if precision == "bf16" else 0)  # the copy in bf16
    assert many.shared == weights and one.shared == 0
    assert one.saved == many.saved + weights


@pytest.mark.parametrize(
    ("parts", "world", "count"), [(1, World(), 6), (1, World(1, 2), 3), (3, World(0, 2), 1)]
)
def test_processes_and_parts_share_the_samples_of_a_step(config, parts, world, count):
    data = dataclasses.replace(config.data, batch_size=6)
    train = dataclasses.replace(config.train, accumulate=parts)
    changed = dataclasses.replace(config, data=data, train=train)
    assert f"backward pass of {count} samples" in describe(changed, CPU, world)[-1]


def test_pairs_are_those_that_are_trained_on(config, options, tmp_path, capsys):
    assert run([*options, "--dump-pairs", "3", "--dry-run"]) == 0
    folder = tmp_path / "runs" / config.name / "pairs"
    assert str(folder) in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [f"0000{n}.png" for n in range(3)]
    sample = training_set(config)[2]
    expected = torch.cat([sample["lq"], sample["gt"]], dim=-1).mul(255).round()
    pixels = np.asarray(Image.open(folder / "00002.png"))
    assert np.array_equal(pixels, expected.permute(1, 2, 0).numpy().astype(np.uint8))
    assert sorted(path.name for path in folder.parent.iterdir()) == ["pairs"]


def test_pairs_are_written_and_the_run_goes_on(config, options, tmp_path):
    assert run([*options, "--dump-pairs", "1", "--set", "train.steps=1"]) == 0
    names = {path.name for path in (tmp_path / "runs" / config.name).iterdir()}
    assert {"pairs", "model.safetensors", "state.pt"} <= names


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "1001", "9" * 50])
def test_a_wrong_number_of_pairs(options, wrong, capsys):
    with pytest.raises(SystemExit):
        run([*options, f"--dump-pairs={wrong}"])
    assert "expected a whole number from 1 to 1000" in capsys.readouterr().err


def test_minutes_are_a_setting_like_others(options, tmp_path):
    assert run([*options, "--minutes", "50", "--set", "train.steps=1"]) == 0
    written = yaml.safe_load((tmp_path / "runs" / "tiny_diffusion" / "config.yml").read_text())
    assert (written["train"]["minutes"], written["train"]["steps"]) == (50.0, 1)
