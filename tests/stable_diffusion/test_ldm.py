"""Published layouts become networks of diffusers that compute the same."""

import json
import re

import ldm_reference as ldm
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_stable_diffusion import (
    HIDDEN,
    TEXT,
    UNET,
    VAE_WIDTHS,
    WIDTHS,
    WORDS,
    make_stable_diffusion,
    vocabulary,
)

from refusion.cli import main
from refusion.errors import CheckpointError
from refusion.stable_diffusion import load_stable_diffusion
from refusion.stable_diffusion.control import build_control, load_control, predict_controlled
from refusion.stable_diffusion.import_ldm import import_ldm

GROUPS, PER_LEVEL = 4, UNET["layers_per_block"]
HEADS = (2, 0)  # the coarse level has no attention


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def published():
    """U-Net, VAE, text encoder and control branch in the published layout."""
    sizes = (WIDTHS, PER_LEVEL, HEADS, HIDDEN, GROUPS)
    text = ldm.Text(len(vocabulary()), HIDDEN, 3, 2, TEXT["intermediate_size"], WORDS)
    networks = ldm.UNet(*sizes), ldm.Autoencoder(VAE_WIDTHS, 1, GROUPS), text
    return [ldm.seeded(n, seed) for seed, n in enumerate([*networks, ldm.ControlNet(*sizes)])]


@pytest.fixture(scope="module")
def pattern(tiny_sd, tmp_path_factory):
    """OpenCLIP's text encoder has another activation than OpenAI's, which is the default."""
    folder = make_stable_diffusion(tmp_path_factory.mktemp("pattern"), seed=5)
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "gelu"}))
    return folder


def write_ldm(path, unet, vae, text, **more):
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in vae.state_dict().items()}
    tensors |= {f"cond_stage_model.model.{k}": v for k, v in text.state_dict().items()}
    tensors |= {"betas": torch.zeros(3), "first_stage_model.loss.logvar": torch.zeros(1)}
    torch.save({"state_dict": tensors | more, "global_step": 3}, path)
    return path


@pytest.fixture(scope="module")
def sd(published, pattern, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    file = write_ldm(folder / "sd.ckpt", *published[:3])
    command = ["import-sd", str(file), "--like", str(pattern), "-o", str(folder / "sd")]
    assert main([*command, "--prediction", "v_prediction", "--zero-snr"]) == 0
    return load_stable_diffusion(folder / "sd", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def control(published, sd, tmp_path_factory):
    path = tmp_path_factory.mktemp("control") / "v2.pth"
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in published[3].state_dict().items()}}, path
    )
    return load_control(path, sd)


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_text_encoder(sd, published):
    ids = torch.randint(
        0, len(vocabulary()), (2, WORDS), generator=torch.Generator().manual_seed(0)
    )
    expected = published[2](ids)
    assert torch.allclose(sd.text_encoder(ids)[0], expected, atol=1e-4 * expected.abs().max())


def test_autoencoder(sd, published):
    image, z = draw(0, 1, 3, 12, 20), draw(1, 1, 4, 6, 10)
    expected = published[1].encode(image)
    assert torch.allclose(sd.vae.encode(image).latent_dist.parameters, expected, atol=1e-4)
    assert torch.allclose(sd.vae.decode(z).sample, published[1].decode(z), atol=1e-4)


def test_unet_and_control(sd, control, published):
    zt, condition, told = draw(0, 2, 4, 6, 8), draw(1, 2, 4, 6, 8), draw(2, 2, WORDS, HIDDEN)
    t = torch.tensor([999, 20])
    expected = published[0](zt, t, told)
    assert expected.abs().max() > 0.1
    tolerance = 1e-4 * expected.abs().max().item()
    assert torch.allclose(sd.predict(zt, t, told), expected, atol=tolerance)
    controls = published[3](zt, condition, t, told)
    steered = published[0](zt, t, told, controls)
    assert (steered - expected).abs().max() > 100 * tolerance
    found = predict_controlled(sd, control, zt, condition, t, told)
    assert torch.allclose(found, steered, atol=5e-4 * steered.abs().max().item())


def test_the_noise_is_what_was_said(sd):
    assert sd.schedule.prediction == "v_prediction" and sd.schedule.alpha_bar[-1] == 0


def test_nothing_is_left_out_silently(published, pattern, tmp_path):
    unet, vae, text, _ = published
    found = import_ldm(write_ldm(tmp_path / "a.ckpt", unet, vae, text), pattern, tmp_path / "sd")
    blocks = [name for name in found if ".resblocks.2." in name]
    rest = {"betas", "first_stage_model.loss.logvar"}
    rest |= {f"cond_stage_model.model.{name}" for name in ("text_projection", "logit_scale")}
    assert len(blocks) == 12 and set(found) - set(blocks) == rest
    with pytest.raises(CheckpointError, match="exists"):
        import_ldm(tmp_path / "a.ckpt", pattern, tmp_path / "sd")
    more = {"model.diffusion_model.more.weight": torch.zeros(1)}
    write_ldm(tmp_path / "b.ckpt", unet, vae, text, **more)
    with pytest.raises(
        CheckpointError, match=r"1 unmatched: more\.weight\); expected those of unet"
    ):
        import_ldm(tmp_path / "b.ckpt", pattern, tmp_path / "other")
    write_ldm(tmp_path / "c.ckpt", unet, vae, text, **{"strange": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="'strange' belongs to no Stable Diffusion"):
        import_ldm(tmp_path / "c.ckpt", pattern, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_published_file_may_be_safetensors(published, pattern, tmp_path):
    content = torch.load(write_ldm(tmp_path / "a.ckpt", *published[:3]), weights_only=True)
    tensors = {name: tensor.clone() for name, tensor in content["state_dict"].items()}
    save_file(tensors, tmp_path / "a.safetensors")
    for name in ("a.ckpt", "a.safetensors"):
        import_ldm(tmp_path / name, pattern, tmp_path / f"from {name}")
    first, second = (
        load_file(tmp_path / f"from {name}/unet/diffusion_pytorch_model.safetensors")
        for name in ("a.ckpt", "a.safetensors")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_cannot_be_used_is_not_written(published, pattern, tmp_path, capsys):
    file = write_ldm(tmp_path / "a.ckpt", *published[:3])
    command = ["import-sd", str(file), "--like", str(pattern), "-o", str(tmp_path / "out")]
    assert main([*command, "--zero-snr"]) == 2
    assert "rescale_betas_zero_snr needs prediction_type 'v_prediction'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        import_ldm(file, pattern, tmp_path / "file" / "out")
    deeper = published[2].state_dict()["transformer.resblocks.2.ln_1.bias"]
    more = {"cond_stage_model.model.transformer.resblocks.3.ln_1.bias": deeper}
    with pytest.raises(CheckpointError, match=r"1 unmatched: encoder\.layers\.3\.layer_norm1"):
        import_ldm(write_ldm(file, *published[:3], **more), pattern, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_tensors_of_no_shape_or_of_one_name_are_refused(published, pattern, sd, tmp_path):
    """Of any rank, and twice: under the published name and under the one it becomes."""
    tensors = dict(published[3].state_dict())
    for wrong in (torch.zeros(()), torch.zeros(3)):
        torch.save(tensors | {"input_blocks.0.0.weight": wrong}, tmp_path / "c.pth")
        with pytest.raises(CheckpointError, match=r"1 missing: controlnet_cond_embedding\.weight"):
            load_control(tmp_path / "c.pth", sd)
    for theirs, ours in (
        ("input_blocks.1.0.in_layers.0.weight", "down_blocks.0.resnets.0.norm1.weight"),
        ("input_blocks.0.0.weight", "controlnet_cond_embedding.weight"),
    ):
        for twice in (tensors | {ours: tensors[theirs]}, {ours: tensors[theirs]} | tensors):
            torch.save(twice, tmp_path / "c.pth")
            with pytest.raises(CheckpointError, match=f"1 unmatched: another {re.escape(ours)}"):
                load_control(tmp_path / "c.pth", sd)
    for name in (
        "first_stage_model.encoder.mid.attn_1.q.weight",
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
    ):
        for wrong in (torch.zeros(()), torch.zeros(2, 2, 0, 0)):
            file = write_ldm(tmp_path / "a.ckpt", *published[:3], **{name: wrong})
            with pytest.raises(CheckpointError, match="its tensors do not fit"):
                import_ldm(file, pattern, tmp_path / "out")


def test_control_cut_out_of_a_whole_model(published, control, sd, tmp_path):
    named = {f"control_model.{name}": t for name, t in published[3].state_dict().items()}
    torch.save(named, tmp_path / "v1.ckpt")
    found = load_control(tmp_path / "v1.ckpt", sd).state_dict()
    assert all(torch.equal(found[name], t) for name, t in control.state_dict().items())


def test_control_must_fit(published, sd, tmp_path):
    tensors = dict(published[3].state_dict())
    removed = tensors.pop("zero_convs.0.0.bias")
    torch.save(tensors, tmp_path / "less.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: controlnet_down_blocks\.0\.bias"):
        load_control(tmp_path / "less.pth", sd)
    torch.save(tensors | {"zero_convs.0.0.bias": removed[:3]}, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=r"1 of another shape: controlnet_down_blocks\.0"):
        load_control(tmp_path / "short.pth", sd)
    for name in ("nothing.pth", "nothing.safetensors"):
        with pytest.raises(CheckpointError, match="no such"):
            load_control(tmp_path / name, sd)
    torch.save({"a": torch.nn.Linear(1, 1)}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        load_control(tmp_path / "code.pth", sd)


def test_a_new_branch_adds_nothing(sd):
    control = build_control(sd)
    zt, told = draw(0, 1, 4, 4, 4), draw(2, 1, WORDS, HIDDEN)
    plain = sd.predict(zt, 7, told)
    assert torch.equal(predict_controlled(sd, control, zt, draw(1, 1, 4, 4, 4), 7, told), plain)
    assert all(p.requires_grad for p in control.parameters())
    assert control.conv_in.weight is not sd.unet.conv_in.weight
