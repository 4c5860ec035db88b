"""Priors in the layout of diffusers, built and saved by diffusers; nothing is downloaded."""

import json
import shutil

import pytest
import torch

from refusion.errors import CheckpointError
from refusion.nets import UnconditionalUNet
from refusion.restorers import DDRM, load_prior
from refusion.restorers.ddrm.priors import read_alpha_bar
from refusion.restorers.ddrm.problems import super_resolution

diffusers = pytest.importorskip("diffusers")

LAYOUT = {
    "sample_size": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
}


def randomize(network):
    """Add noise to every weight, so that no weight is 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomize(diffusers.UNet2DModel(**LAYOUT))


@pytest.fixture(scope="module")
def saved(unet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def photo(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_a_saved_pipeline_loads_as_the_same_network(unet, saved):
    prior = load_prior(saved, device="cpu", precision="fp32")
    assert (prior.side, prior.steps, prior.precision) == (16, 20, "fp32")
    published = diffusers.DDPMScheduler().alphas_cumprod.double()
    torch.testing.assert_close(prior.alpha_bar[1:], published, rtol=1e-5, atol=0)
    xt = 2 * photo(16, 24) - 1
    with torch.no_grad():  # times in diffusers are 0..T-1
        expected = [unet(xt, t - 1).sample for t in (1, 951)]
    for t, noise in zip((1, 951), expected, strict=True):
        torch.testing.assert_close(prior.predict_noise(xt, t), noise)
    assert prior.predict_noise(photo(13, 7), 500).shape == (1, 3, 13, 7)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules_agree_with_diffusers(tmp_path, kind):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=200, beta_schedule=kind)
    scheduler.save_pretrained(tmp_path)
    found = read_alpha_bar(tmp_path / "scheduler_config.json")
    expected = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(found[1:], expected, rtol=1e-4, atol=1e-9)


def test_photos_can_be_larger_than_the_training_images(saved):
    prior = load_prior(saved, device="cpu", precision="fp32")
    restorer = DDRM(prior, super_resolution(2), 0.05)
    result = restorer.restore(photo(11, 13), steps=2)
    assert result.shape == (1, 3, 22, 26) and bool(torch.isfinite(result).all())
    assert not torch.equal(result, restorer.restore(photo(11, 13), steps=2, seed=1))


def test_a_network_without_scheduler_uses_that_of_ddpm(unet, saved, tmp_path):
    unet.save_pretrained(tmp_path / "unet_alone")
    alone, whole = (load_prior(p, device="cpu") for p in (tmp_path / "unet_alone", saved))
    assert torch.equal(alone.alpha_bar, whole.alpha_bar)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 1}, "cannot be loaded"),
        ({"class_embed_type": "timestep"}, "cannot be loaded|unconditional"),
        ({"class_embed_type": "identity"}, "an unconditional model of 3 channels"),
        ({"block_out_channels": "wide"}, "cannot be loaded"),
        ({"down_block_types": ["Up", "Down"]}, "cannot be loaded"),
    ],
)
def test_a_wrong_network_raises_an_error_of_one_line(saved, tmp_path, change, message):
    folder = tmp_path / "changed"
    shutil.copytree(saved, folder)
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_prior(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_weights_raise_an_error(saved, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(saved, folder)
    (file,) = (folder / "unet").glob("*.safetensors")
    for damage in (lambda: file.write_bytes(b"no"), file.unlink):
        damage()
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            load_prior(folder, device="cpu")


ADM = {
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 2,
    "attention_resolutions": [2],
    "head_channels": 16,
    "out_channels": 6,
}


def adm_name(name):
    """Name in diffusers of a tensor of `ADM`, except for queries, keys and values."""
    blocks = {
        "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
        "input_blocks.1.0": "down_blocks.0.resnets.0",
        "input_blocks.2.0": "down_blocks.0.resnets.1",
        "input_blocks.3.0": "down_blocks.0.downsamplers.0",
        "input_blocks.4.0": "down_blocks.1.resnets.0",
        "input_blocks.5.0": "down_blocks.1.resnets.1",
        "input_blocks.4.1": "down_blocks.1.attentions.0",
        "input_blocks.5.1": "down_blocks.1.attentions.1",
        "middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1",
        "middle_block.1": "mid_block.attentions.0", "output_blocks.2.2": "up_blocks.0.upsamplers.0",
        "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    }  # fmt: skip
    for k in range(6):
        blocks[f"output_blocks.{k}.0"] = f"up_blocks.{k // 3}.resnets.{k % 3}"
    for k in range(3):
        blocks[f"output_blocks.{k}.1"] = f"up_blocks.0.attentions.{k}"
    layers = {
        "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
        "norm": "group_norm", "qkv": "qkv", "proj_out": "to_out.0",
    }  # fmt: skip
    block = next(b for b in blocks if name.startswith(f"{b}."))
    *layer, kind = name.removeprefix(f"{block}.").split(".")
    inner = [layers[".".join(layer)]] if layer else []
    return ".".join([blocks[block], *inner, kind])


def to_diffusers(state, head_channels):
    """Weights of guided-diffusion with the names of diffusers."""
    renamed = {}
    for name, tensor in state.items():
        found = adm_name(name)
        if ".qkv." in found:  # for each head its queries, keys and values
            heads = len(tensor) // 3 // head_channels
            parts = tensor.unflatten(0, (heads, 3, head_channels)).unbind(1)
            for letter, part in zip("qkv", parts, strict=True):
                value = part.flatten(0, 1)
                renamed[found.replace("qkv", f"to_{letter}")] = value.reshape(value.shape[:2])
        else:
            is_dense = "to_out" in found and tensor.ndim == 3
            renamed[found] = tensor.squeeze(-1) if is_dense else tensor
    return renamed


def test_unconditional_unet_agrees_with_that_of_diffusers():
    """Two independent implementations of the same network, with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = randomize(UnconditionalUNet(**ADM))
    theirs = diffusers.UNet2DModel(
        sample_size=16,
        out_channels=6,
        block_out_channels=(32, 64),
        layers_per_block=2,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=16,
        norm_num_groups=32,
        attn_norm_num_groups=32,
    ).eval()
    theirs.load_state_dict(to_diffusers(ours.state_dict(), ADM["head_channels"]))
    xt = 2 * photo(16, 24) - 1
    with torch.no_grad():
        for t in (1, 400, 1000):
            found, expected = ours(xt, None, t), theirs(xt, t - 1).sample[:, :3]
            assert float(expected.abs().max()) > 0.1
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
