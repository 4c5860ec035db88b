"""Published weights become checkpoints that compute what the authors' code computes."""

import copy

import pytest
import torch
from official_cases import OPTIONS, fresh_weights, recorded_weights, save_pth

from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint
from refusion.errors import CheckpointError, ConfigError
from refusion.nets import ConditionalNAFNet, ConditionalUNet, LatentUNet
from refusion.official.importing import (
    ImportChoices,
    OfficialFiles,
    import_official,
    open_latent,
    open_tensors,
)
from refusion.restorers import load_restorer

SMALL = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
DERAIN = ImportChoices(task="derain", max_sigma=10)


def written(checkpoint, path):
    """The file an import writes, read back."""
    save_checkpoint(path, checkpoint.model, checkpoint.tensors, checkpoint.info)
    return read_checkpoint(path)


def weights_file(tmp_path, net, name="net.pth", **settings):
    return save_pth(tmp_path / name, fresh_weights(net(**settings)))


def small_latent(tmp_path, embed_dim=4):
    return weights_file(
        tmp_path, LatentUNet, "latent.pth", ch=4, ch_mult=[2, 2], embed_dim=embed_dim
    )


def wrapped(weights, wrapping):
    prefix = {"plain": "", "parallel": "module.", "average": "ema_model.module."}[wrapping]
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("wrapping", ["plain", "parallel", "average"])
@pytest.mark.parametrize(
    ("case", "latent"),
    [("conditional_nafnet_pixel", None), ("conditional_nafnet_latent", 4),
     ("conditional_nafnet_bokeh", 4), ("conditional_nafnet_stereo", None),
     ("conditional_unet", None)],
)  # fmt: skip
@torch.no_grad()
def test_recorded_outputs(tmp_path, case, latent, wrapping):
    weights, about = recorded_weights(case)
    files = OfficialFiles(
        save_pth(tmp_path / "net.pth", wrapped(weights, wrapping)),
        None if latent is None else small_latent(tmp_path, latent),
    )
    read = written(import_official(files, DERAIN), tmp_path / "model.safetensors")
    network = build_model(read).network
    lens = {}
    if "in.src_lens" in about:
        names = "in.src_lens", "in.tgt_lens", "in.disparity"
        lens = {"lens": torch.stack([about[name] for name in names], dim=1)}
    noise = network(about["in.x_t"], about["in.mu"], about["in.t"], **lens)
    torch.testing.assert_close(noise, about["out.noise"], rtol=1e-5, atol=1e-5)
    assert load_restorer(tmp_path / "model.safetensors").info.task == "derain"


@torch.no_grad()
def test_recorded_latent_unet(tmp_path):
    weights, about = recorded_weights("latent_unet")
    path = save_pth(tmp_path / "unet.pth", weights)
    imported = import_official(OfficialFiles(latent_unet=path))
    for found in (written(imported, tmp_path / "model.safetensors"), open_latent(path)):
        assert found.model.task == "bokeh"
        unet = build_model(found).latent_unet
        lq, gt = unet.encode(about["in.lq"]), unet.encode(about["in.gt"])
        torch.testing.assert_close(lq.z, about["out.latent_lq"], rtol=1e-5, atol=1e-5)
        replaced = unet.decode(gt.z, lq.skips, lq.size)
        torch.testing.assert_close(replaced, about["out.replacement"], rtol=1e-5, atol=1e-5)
    again = open_latent(tmp_path / "model.safetensors")
    assert again.tensors.keys() == imported.tensors.keys() == open_tensors(path).keys()


def test_tensors_and_origin_are_kept(tmp_path):
    path = weights_file(tmp_path, ConditionalUNet, nf=4, depth=2)
    found = written(import_official(OfficialFiles(path), DERAIN), tmp_path / "m.safetensors")
    assert found.info["source"]["network"]["file"] == "net.pth"
    assert len(found.info["source"]["network"]["sha256"]) == 64
    state, opened = torch.load(path, weights_only=True), open_tensors(path)
    assert all(torch.equal(found.tensors[f"network.{k}"], v) for k, v in state.items())
    assert all(torch.equal(opened[f"network.{k}"], v) for k, v in state.items())


@pytest.mark.parametrize(
    ("settings", "latent", "choices", "expected"),
    [({}, None, {"task": "derain"}, ("derain", 50, "IRSDE", 100, "euler", "pixel")),
     ({"stereo": True}, None, {}, ("stereo_sr", 50, "IRSDE", 100, "euler", "pixel")),
     ({"img_channel": 8}, 8, {}, ("dehaze", 50, "IRSDE", 100, "euler", "latent")),
     ({"img_channel": 4, "lens": True}, 4, {}, ("bokeh", 50, "IRSDE", 100, "euler", "pixel")),
     ({"conditional": False}, None, {}, ("denoise", 70, "DenoisingSDE", 1000, "ode", "pixel")),
     ({}, None, {"task": "x", "max_sigma": 20, "T": 50, "wiring": "latent"},
      ("x", 20, "IRSDE", 50, "euler", "latent"))],
)  # fmt: skip
def test_defaults_of_the_release(tmp_path, settings, latent, choices, expected):
    path = weights_file(tmp_path, ConditionalNAFNet, **SMALL, **settings)
    unet = None if latent is None else small_latent(tmp_path, latent)
    model = import_official(OfficialFiles(path, unet), ImportChoices(**choices)).model
    sde, steps = model.sde, model.sampling.steps
    found = (model.task, sde.settings["max_sigma"], sde.type, steps, model.sampling.sampler)
    assert (*found, model.network.settings["wiring"]) == expected
    assert (sde.settings["T"], model.prediction) == (steps, "noise")


def enlargement(tmp_path, net, settings, **choices):
    path = weights_file(tmp_path, net, **settings)
    found = import_official(OfficialFiles(path), ImportChoices(max_sigma=30, **choices))
    return found.model.upscale and (found.model.upscale.factor, found.model.upscale.mode)


def test_super_resolution_is_enlarged_as_the_released_weights_know_it(tmp_path):
    unet = ConditionalUNet, {"nf": 4, "depth": 1}
    assert enlargement(tmp_path, *unet, task="sr") == (4, "nearest")
    assert enlargement(tmp_path, *unet, task="sr", upscale="bicubic") == (4, "bicubic")
    assert enlargement(tmp_path, *unet, task="derain") is None
    assert enlargement(tmp_path, ConditionalNAFNet, SMALL, task="sr") == (4, "bicubic")
    assert enlargement(tmp_path, ConditionalNAFNet, SMALL | {"stereo": True}) == (4, "bicubic")


def refused(message, files, choices=None, error=CheckpointError):
    with pytest.raises(error, match=message):
        import_official(files, choices)


def test_what_no_file_tells_must_be_said(tmp_path):
    unet = weights_file(tmp_path, ConditionalUNet, nf=4, depth=1)
    nafnet = weights_file(tmp_path, ConditionalNAFNet, "naf.pth", **SMALL)
    refused("--task: .*--options", OfficialFiles(nafnet), error=ConfigError)
    refused(
        "--max-sigma: .*10, 30.*--options",
        OfficialFiles(unet),
        ImportChoices("derain"),
        ConfigError,
    )
    softmax = {"conditional": False, "mid_attention": "softmax"}
    noise = weights_file(tmp_path, ConditionalUNet, "noise.pth", nf=4, depth=1, **softmax)
    refused("--T: ", OfficialFiles(noise), ImportChoices(max_sigma=75), ConfigError)
    model = import_official(OfficialFiles(noise), ImportChoices(max_sigma=75, T=100)).model
    assert (model.sde.type, model.sampling.steps) == ("DenoisingSDE", 100)
    wiring = ImportChoices("derain", "latent", max_sigma=10)
    refused("--wiring: a ConditionalUNet has only one", OfficialFiles(unet), wiring, ConfigError)


def test_files_of_different_models_are_refused(tmp_path):
    net = weights_file(tmp_path, ConditionalNAFNet, **SMALL, img_channel=8)
    photos = weights_file(tmp_path, ConditionalNAFNet, "photos.pth", **SMALL)
    latent = small_latent(tmp_path, 4)
    refused(r"net\.pth: takes 8 channels.*add --latent", OfficialFiles(net))
    refused(r"net\.pth takes 8 .*latent\.pth has 4: the files belong", OfficialFiles(net, latent))
    refused("or none, because it works on photos", OfficialFiles(photos, latent))
    refused("is a latent U-Net.*give it as --latent", OfficialFiles(latent))
    refused("is a ConditionalNAFNet, not a latent U-Net", OfficialFiles(net, photos))
    refused("nothing to import", OfficialFiles())


def described(name, **setting):
    raw = copy.deepcopy(OPTIONS[name])
    raw["network_G"]["setting"] |= setting
    return raw


def test_option_file_decides_what_weights_do_not_tell(tmp_path):
    name = "deraining/options/test/ir-sde.yml"
    path = weights_file(tmp_path, ConditionalUNet, nf=4, depth=2)
    raw = described(name, nf=4, depth=2)
    found = import_official(OfficialFiles(path, None, raw, "some/ir-sde.yml"))
    assert (found.model.task, found.model.sampling.sampler) == ("derain", "posterior")
    assert found.model.sde.settings["max_sigma"] == 10
    assert found.info["source"]["options"] == "ir-sde.yml"
    files = OfficialFiles(path, None, raw, "some/ir-sde.yml")
    chosen = import_official(files, ImportChoices(task="snow", max_sigma=30)).model
    assert (chosen.task, chosen.sde.settings["max_sigma"]) == ("snow", 30)


def test_released_weights_that_differ_from_their_option_file(tmp_path):
    """The inpainting and deshadowing weights have nf 32; their training files say 64."""
    path = weights_file(tmp_path, ConditionalUNet, nf=32, depth=1)
    raw = described("inpainting/options/test/ir-sde.yml")
    files = OfficialFiles(path, None, raw, "inpainting/ir-sde.yml")
    message = (
        r"inpainting/ir-sde\.yml does not describe these weights: network_G\.setting\.nf is 64 "
        r"in the file, 32 in the weights; network_G\.setting\.depth is 4 in the file, "
        r"1 in .*--trust-weights"
    )
    refused(message, files)
    model = import_official(files, ImportChoices(trust_weights=True)).model
    assert (model.network.settings["nf"], model.network.settings["depth"]) == (32, 1)
    assert (model.task, model.sde.settings["max_sigma"]) == ("inpaint", 30)


def test_option_file_of_another_model_is_refused(tmp_path):
    trust = ImportChoices(trust_weights=True)
    unet = weights_file(tmp_path, ConditionalUNet, nf=4, depth=1)
    naf = weights_file(tmp_path, ConditionalNAFNet, "naf.pth", **SMALL)
    latent = small_latent(tmp_path, 8)
    naf8 = weights_file(tmp_path, ConditionalNAFNet, "naf8.pth", **SMALL, img_channel=8)
    rain, haze, noise, stereo, alone = (
        OPTIONS[name]
        for name in (
            "deraining/options/test/refusion.yml",
            "latent-dehazing/options/dehazing/test/nasde.yml",
            "denoising-sde/options/test/refusion.yml",
            "stereo-sr/options/ssr/test/refusion.yml",
            "unet-latent/options/test/test_latent.yml",
        )
    )
    y = "their.yml"
    refused("describes a ConditionalNAFNet, .*ConditionalUNet", OfficialFiles(unet, None, rain, y))
    refused("describes a latent U-Net; add --latent", OfficialFiles(naf, None, haze, y), trust)
    refused("describes no latent U-Net", OfficialFiles(naf8, latent, rain, y), trust)
    refused(
        "no input but the noisy photo.*conditioned on the degraded",
        OfficialFiles(naf, None, noise, y),
        trust,
    )
    refused("stereo pairs; .*single photos", OfficialFiles(naf, None, stereo, y), trust)
    refused("describes no noise network", OfficialFiles(naf8, latent, alone, y), trust)
    refused("network_G.setting.width is 64 in the file, 4 in", OfficialFiles(naf8, latent, haze, y))
    fits = described("latent-dehazing/options/dehazing/test/nasde.yml", **SMALL)
    refused("network_L.setting.ch is 8 in the file, 4 in", OfficialFiles(naf8, latent, fits, y))
    found = import_official(OfficialFiles(naf8, latent, haze, y), trust).model
    assert (found.network.settings["wiring"], found.latent_unet.settings["ch"]) == ("latent", 4)


def test_latent_unet_with_its_option_file(tmp_path):
    raw = described("unet-latent/options/test/test_latent.yml", ch=4, ch_mult=[2, 2])
    found = import_official(OfficialFiles(None, small_latent(tmp_path, 8), raw, "a.yml"))
    assert (found.model.task, found.model.network) == ("dehaze", None)


def test_open_latent_refuses_other_weights(tmp_path):
    path = weights_file(tmp_path, ConditionalUNet, nf=4, depth=1)
    with pytest.raises(CheckpointError, match="not a latent U-Net"):
        open_latent(path)
