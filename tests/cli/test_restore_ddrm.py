"""`--method ddrm` on real files."""

import json

import cli_cases
import pytest
import torch

from refusion.checkpoint import save_checkpoint
from refusion.cli import restore, restore_main
from refusion.cli.options.ddrm import chosen_ddrm
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.nets import UnconditionalUNet

NETWORK = {
    "image_size": 16,
    "model_channels": 8,
    "channel_mult": [1, 1],
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "head_channels": 4,
    "groups": 4,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tensors = UnconditionalUNet(**NETWORK).state_dict()
    config = {
        "task": "ddrm_prior",
        "network": {"type": "UnconditionalUNet", **NETWORK},
        "sde": {"type": "VPSDE"},
        "prediction": "noise",
        "sampling": {"sampler": "posterior", "steps": 2},
    }
    named = {f"network.{k}": v for k, v in tensors.items()}
    save_checkpoint("prior.safetensors", config, named, {})
    cli_cases.make("photo.png", 20, 14)
    mask = torch.ones(3, 20, 14)
    mask[:, 5:9, 3:7] = 0
    write_image("mask.png", mask)
    write_image("small.png", mask[:, :9, :9])
    write_image("black.png", torch.zeros(3, 3, 3))
    write_image("even.png", torch.ones(3, 4, 3))
    write_image("kernel.png", torch.eye(3).expand(3, -1, -1))
    return tmp_path


def ddrm(*options):
    common = ("--method", "ddrm", "--weights", "prior.safetensors", "--device", "cpu")
    return restore_main(
        ["--input", "photo.png", "--output", "out.png", "--quiet", *common, *options]
    )


TASKS = {
    "sr4": ((), 4),
    "sr2mean": ((), 2),
    "inpaint": (("--mask", "mask.png"), 1),
    "colorize": ((), 1),
    "deblur": (("--kernel", "gauss:1.0"), 1),
    "denoise": (("--sigma", "0.1"), 1),
    "cs": (("--eta", "0.5", "--eta-b", "0.9", "--official"), 1),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_degradation(folder, task):
    options, scale = TASKS[task]
    assert ddrm("--task", task, *options) == 0
    result = read_image("out.png").image
    assert result.shape == (3, 20 * scale, 14 * scale)
    if task == "inpaint":  # without noise what is known stays as it is
        kept = read_image("mask.png").image > 0.5
        assert torch.equal(result[kept], read_image("photo.png").image[kept])


def test_the_mean_is_the_default_and_a_sample_depends_on_the_seed(folder):
    def restored(*options):
        assert ddrm("--task", "denoise", "--sigma", "0.1", *options) == 0
        return read_image("out.png").image

    mean = restored()
    assert torch.equal(restored("--estimate", "mean", "--seed", "1"), mean)
    sample = restored("--estimate", "sample")
    assert not torch.equal(sample, mean)
    assert not torch.equal(restored("--estimate", "sample", "--seed", "1"), sample)
    assert torch.equal(restored("--eta", "0.85"), sample)  # an option of samples


@pytest.mark.parametrize("option", [("--samples", "2"), ("--eta", "0.5"), ("--official",)])
def test_options_of_samples_do_not_go_with_the_mean(folder, capsys, option):
    assert ddrm("--task", "sr4", "--estimate", "mean", *option) == 2
    assert f"--estimate: {option[0]} is for random samples" in capsys.readouterr().err


def test_a_kernel_file_and_several_samples(folder):
    options = ("--samples", "2", "--uncertainty", "map.png", "--log-file", "log.json")
    assert ddrm("--task", "deblur", "--kernel", "kernel.png", "--sigma", "0.02", *options) == 0
    assert (folder / "map.png").is_file() and (folder / "log.json").is_file()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_gray_photo_gets_colours(folder, bits):
    gray = read_image("photo.png").image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    write_image("photo.png", gray, Photo(gray, mode="gray", bit_depth=bits, icc=b"gray profile"))
    assert read_image("photo.png").mode == "gray"
    assert ddrm("--task", "colorize") == 0
    result = read_image("out.png")
    assert (result.mode, result.bit_depth, result.icc) == ("rgb", bits, None)
    assert float((result.image.amax(0) - result.image.amin(0)).max()) > 0.01
    assert ddrm("--task", "inpaint", "--mask", "mask.png") == 0
    assert read_image("out.png").mode == "gray"  # nobody asked for colours


def test_the_prior_that_ships_is_the_default(folder, monkeypatch, capsys):
    monkeypatch.setattr("refusion.weights.FOLDER", folder / "weights")
    command = ["--input", "photo.png", "--output", "out.png", "--quiet", "--device", "cpu"]
    command += ["--method", "ddrm", "--task", "sr2", "--log-file", "log.json"]
    assert restore_main(command) == 2
    error = capsys.readouterr().err
    assert "options/denoise_small.yml" in error and error.count("\n") == 1
    (folder / "weights").mkdir()
    (folder / "prior.safetensors").rename(folder / "weights" / "denoise.safetensors")
    assert restore_main(command) == 0
    assert json.loads((folder / "log.json").read_text())["model"]["task"] == "sr2"


WRONG = [
    (("--task", "sr0"), "factor of 1 to 16"),
    (("--task", "inpant"), "--task: unknown degradation 'inpant'; did you mean 'inpaint'?"),
    (("--task", "inpaint"), "--mask: missing"),
    (("--task", "inpaint", "--mask", "small.png"), "mask: expected the photo's size, 14x20"),
    (("--task", "inpaint", "--mask", "black.png"), "--mask: black.png is black"),
    (("--task", "deblur"), "--kernel: missing"),
    (("--task", "denoise"), "--sigma: missing"),
    (("--task", "denoise", "--sigma", "0"), "--sigma: expected above 0, got 0"),
    (("--task", "deblur", "--kernel", "even.png"), "--kernel: even.png is 3x4; both sides must be"),
    (("--task", "deblur", "--kernel", "black.png"), "--kernel: black.png is black"),
    (("--task", "deblur", "--kernel", "gauss:x"), "--kernel: expected gauss:2.0"),
    (("--task", "deblur", "--kernel", "gauss:0"), "sigma: expected a blur of 0.01 to 100"),
    (("--task", "sr4", "--mask", "mask.png"), "--mask: --task sr4 does not use it"),
    (("--task", "sr4", "--sampler", "ode"), "--sampler: --method ddrm does not use it"),
    (("--task", "sr4", "--noise-level", "3"), "--noise-level: --method ddrm does not use it"),
    (("--task", "sr4", "--floor", "0.9"), "floor: 0.9 is above all singular values"),
    (("--task", "sr4", "--weights", "nothing.safetensors"), "no such weights file"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_mistakes_are_one_line(folder, capsys, options, message):
    assert ddrm(*options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "out.png").exists()


def test_its_options_need_the_method(folder, capsys):
    assert restore_main(["--input", "photo.png", "--sigma", "0.1"]) == 2
    assert "--sigma: only --method ddrm uses it" in capsys.readouterr().err


def test_the_memory_limit_holds_for_reading(folder, capsys):
    assert ddrm("--task", "sr4", "--max-memory", "1M") == 1
    error = capsys.readouterr().err
    assert "photo.png: max memory: decoding 14x20 pixels needs" in error
    assert error.count("\n") == 1 and not (folder / "out.png").exists()
    assert ddrm("--task", "sr4", "--max-memory", "100G") == 0
    assert ddrm("--task", "sr4", "--max-memory", "4 apples") == 2


@pytest.mark.parametrize(
    ("options", "floor"),
    [
        (("--task", "sr4"), 0.03),
        (("--task", "sr4", "--sigma", "0.02"), 0.0),
        (("--task", "deblur", "--kernel", "gauss:2", "--sigma", "0.001"), 0.03),
        (("--task", "deblur", "--kernel", "gauss:2", "--sigma", "0.02", "--floor", "0"), 0.0),
    ],
)
def test_deblurring_does_not_amplify_the_guessed_borders(options, floor):
    parsed = restore.build_parser().parse_args(["--method", "ddrm", *options])
    restorer = chosen_ddrm(parsed, torch.device("cpu"))
    named = restorer.settings.floor
    assert (restorer.problem.floor if named is None else named) == floor
