"""DiffBIR's first stage in its published layout: settings found, nothing unmatched let in."""

import pytest
import torch

from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint
from refusion.cli import import_official as command
from refusion.errors import CheckpointError, ConfigError
from refusion.nets import SwinIR
from refusion.official.detect import detect_network
from refusion.official.importing import ImportChoices, OfficialFiles, import_official, open_tensors
from refusion.restorers import load_restorer

TINY = {
    "embed_dim": 12,
    "depths": [2, 3],
    "num_heads": [2, 3],
    "window_size": 4,
    "mlp_ratio": 1.5,
    "unshuffle": 4,
    "num_feat": 6,
    "img_size": 12,
}


def network(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SwinIR(**TINY | changes).eval().requires_grad_(False)


def save(path, state, wrapped=False):
    if wrapped:
        state = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(state, path)
    return path


def test_settings_of_the_published_network_are_read_off_its_shapes():
    with torch.device("meta"):
        net = SwinIR()
    found = detect_network(net.state_dict(), "swinir.ckpt")
    assert found.type == "SwinIR"
    assert found.settings == {
        "embed_dim": 180, "depths": [6] * 8, "num_heads": [6] * 8, "window_size": 8,
        "mlp_ratio": 2.0, "unshuffle": 8, "num_feat": 64, "img_size": 64,
    }  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("upsampler", ["nearest+conv", "pixelshuffledirect"])
def test_an_imported_file_restores_as_the_network_did(tmp_path, wrapped, upsampler, capsys):
    net = network(upsampler=upsampler)
    source = save(tmp_path / "swinir.ckpt", net.state_dict(), wrapped)
    output = tmp_path / "blind.safetensors"
    assert command.run(["--net", str(source), "-o", str(output)]) == 0
    assert "task: blind\nnetwork: SwinIR, embed_dim 12" in capsys.readouterr().out
    lq = torch.rand(1, 3, 30, 41, generator=torch.Generator().manual_seed(1))
    restorer = load_restorer(output, device="cpu", precision="fp32")
    assert restorer.info.task == "blind"
    torch.testing.assert_close(restorer.restore(lq), net(lq).clamp(0, 1), rtol=0, atol=1e-5)
    assert set(open_tensors(source)) == set(read_checkpoint(output).tensors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("conv_up2.bias"), r"expected \(6,\) \(1 tensors: conv_up2.bias differ"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' is \\(1,\\), expected absent"),
        (lambda s: s.update({"conv_last.weight": torch.zeros(3, 5, 3, 3)}), "conv_last.weight"),
        (lambda s: s.pop("layers.0.residual_group.blocks.1.attn_mask"), "attn_mask"),
        (lambda s: s.pop("conv_first.1.weight"), "no network of the authors' release"),
    ],
)
def test_names_and_shapes_that_do_not_match_are_reported(tmp_path, change, words):
    state = network().state_dict()
    change(state)
    with pytest.raises(CheckpointError, match=words):
        import_official(OfficialFiles(network=save(tmp_path / "a.pth", state)))


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    torch.save({"state_dict": network().state_dict(), "x": Evil()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="refused because reading them could run code"):
        import_official(OfficialFiles(network=tmp_path / "a.pth"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("said", [{"T": 100}, {"max_sigma": 50.0}, {"wiring": "pixel"}])
def test_what_only_a_diffusion_has_is_refused(tmp_path, said):
    source = save(tmp_path / "a.pth", network().state_dict())
    with pytest.raises(ConfigError, match="without a diffusion process; leave the option out"):
        import_official(OfficialFiles(network=source), ImportChoices(**said))


def test_a_found_model_builds_and_is_kept_in_half_the_bytes(tmp_path):
    source = save(tmp_path / "a.pth", network().state_dict())
    found = import_official(OfficialFiles(network=source), ImportChoices(task="faces"))
    path = tmp_path / "faces.safetensors"
    save_checkpoint(path, found.model, found.tensors, found.info, torch.float16)
    model = build_model(read_checkpoint(path))
    assert model.config.task == "faces"
    assert model.config.sde is None
