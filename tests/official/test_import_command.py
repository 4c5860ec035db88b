"""`refusion import`: what it writes, what it prints, and how it refuses."""

import pytest
import torch
import yaml
from official_cases import OPTIONS, fresh_weights, recorded_weights, save_pth

from refusion.checkpoint import read_checkpoint
from refusion.cli import import_official
from refusion.errors import ConfigError
from refusion.nets import LatentUNet
from refusion.restorers import load_restorer


def run(*argv):
    return import_official.run([str(word) for word in argv])


@pytest.fixture
def weights(tmp_path):
    """A small published network in a latent of four channels, and its latent U-Net."""
    net = save_pth(tmp_path / "net.pth", recorded_weights("conditional_nafnet_latent")[0])
    unet = LatentUNet(ch=4, ch_mult=[1, 2, 2], embed_dim=4)
    return net, save_pth(tmp_path / "latent.pth", fresh_weights(unet))


@torch.no_grad()
def test_model_is_written_described_and_restores(tmp_path, weights, capsys):
    net, latent = weights
    output = tmp_path / "made" / "model.safetensors"
    common = ("--net", net, "--latent", latent, "--task", "dehaze", "-o", output)
    assert run(*common, "--dtype", "float16") == 0
    printed = capsys.readouterr().out
    assert "network: ConditionalNAFNet, img_channel 4, width 8" in printed
    assert "wiring latent" in printed
    assert "latent_unet: LatentUNet" in printed
    assert "sde: IRSDE, max_sigma 50, T 100" in printed
    assert printed.endswith(f"{output}\n")
    assert read_checkpoint(output).tensors["network.intro.weight"].dtype == torch.float16
    restored = load_restorer(output).restore(torch.rand(1, 3, 24, 20), steps=2)
    assert restored.shape == (1, 3, 24, 20)


def test_option_file_is_followed(tmp_path, capsys):
    net = save_pth(tmp_path / "net.pth", recorded_weights("conditional_unet")[0])
    raw = OPTIONS["deraining/options/test/ir-sde.yml"]
    raw = raw | {"network_G": {"which_model_G": "ConditionalUNet", "setting": {"nf": 8}}}
    (tmp_path / "their.yml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    output = tmp_path / "m.safetensors"
    assert run("--net", net, "--options", tmp_path / "their.yml", "-o", output) == 0
    assert "sampling: posterior, 100 steps" in capsys.readouterr().out
    model = read_checkpoint(output).model
    assert (model.task, model.sde.settings["max_sigma"]) == ("derain", 10)


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["-o", "m.safetensors"], "nothing to import: give --net"),
     (["--net", "a.pth", "-o", "m.pth"], r"--output: 'm\.pth' must end in \.safetensors"),
     (["--net", "a.pth", "-o", "m.safetensors", "--max-sigma", "0.2"], "--max-sigma: expected 1"),
     (["--net", "a.pth", "-o", "m.safetensors", "--options", "no.yml"], r"no\.yml: no such file")],
)  # fmt: skip
def test_wrong_usage(argv, message):
    with pytest.raises(ConfigError, match=message):
        run(*argv)


def test_our_own_option_file_is_no_option_file_of_theirs(tmp_path):
    (tmp_path / "own.yml").write_text("name: a\nnetwork: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="weights trained here need no import"):
        run("--net", "a.pth", "-o", "m.safetensors", "--options", tmp_path / "own.yml")
