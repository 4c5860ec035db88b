"""ADM checkpoints: the settings are found from the shapes alone."""

import pytest
import torch

from refusion.checkpoint import save_checkpoint
from refusion.cli import main
from refusion.errors import CheckpointError
from refusion.nets import UnconditionalUNet
from refusion.official.adm import adm_settings, import_adm
from refusion.restorers import load_prior

SMALL = {
    "model_channels": 32,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": 2,
    "attention_resolutions": [2, 4],
    "out_channels": 6,
}


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        # ADM of ImageNet, 256 pixels, which DDRM used
        {
            "model_channels": 256,
            "channel_mult": [1, 1, 2, 2, 4, 4],
            "num_res_blocks": 2,
            "attention_resolutions": [8, 16, 32],
            "out_channels": 6,
        },
        {**SMALL, "num_res_blocks": 1, "attention_resolutions": [4], "out_channels": 3},
    ],
)
def test_settings_are_read_off_the_shapes(settings):
    with torch.device("meta"):
        state = UnconditionalUNet(**settings).state_dict()
    assert adm_settings("x.pt", state) == settings


def test_size_of_the_published_network():
    with torch.device("meta"):
        net = UnconditionalUNet(
            model_channels=256,
            channel_mult=[1, 1, 2, 2, 4, 4],
            attention_resolutions=[8, 16, 32],
            out_channels=6,
        )
    assert sum(p.numel() for p in net.parameters()) == 552_814_086  # 552.8 M in the paper


def test_an_imported_file_is_a_prior_with_the_same_output(tmp_path):
    torch.manual_seed(0)
    net = UnconditionalUNet(**SMALL, head_channels=16).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    torch.save(net.state_dict(), tmp_path / "adm.pt")
    found = import_adm(tmp_path / "adm.pt", image_size=16, head_channels=16)
    save_checkpoint(tmp_path / "prior.safetensors", found.model, found.tensors, found.info)
    prior = load_prior(tmp_path / "prior.safetensors", device="cpu", precision="fp32")
    xt = torch.randn(1, 3, 16, 20)
    with torch.no_grad():
        expected = net(xt, None, 951)
    assert prior.side == 16 and expected.shape == xt.shape
    assert torch.allclose(prior.predict_noise(xt, 951), expected, atol=1e-4)


def test_the_command_writes_a_prior(tmp_path, capsys):
    net = UnconditionalUNet(**SMALL, head_channels=16)
    torch.save(net.state_dict(), tmp_path / "adm.pt")
    output = str(tmp_path / "prior.safetensors")
    command = ["import", "--adm", str(tmp_path / "adm.pt"), "-o", output]
    assert main([*command, "--image-size", "16", "--head-channels", "16"]) == 0
    assert "network: UnconditionalUNet, image_size 16" in capsys.readouterr().out
    assert load_prior(output, device="cpu").side == 16
    for words, message in (
        (["--task", "derain"], "--adm: leave out the options of other weights"),
        (["--head-channels", "48"], "head_channels: expected a divisor of the 64 channels"),
    ):
        assert main([*command, *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("out.2.weight"), "has no tensors"),
        (lambda s: s.update({"label_emb.weight": torch.zeros(3)}), "has a class condition"),
        (
            lambda s: s.update({"input_blocks.1.0.emb_layers.1.weight": torch.zeros(32, 128)}),
            "no time-dependent scale and shift",
        ),
    ],
)
def test_other_networks_are_refused(tmp_path, change, message):
    state = dict(UnconditionalUNet(**SMALL, head_channels=16).state_dict())
    change(state)
    torch.save(state, tmp_path / "adm.pt")
    with pytest.raises(CheckpointError, match=message):
        import_adm(tmp_path / "adm.pt")
