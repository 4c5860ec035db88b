"""All 33 published option files: each gives the network and the SDE it describes."""

import copy
import logging
import math

import pytest
import torch
from official_cases import BOKEH_UNET, HAZE_UNET, OPTIONS, TEST, TRAIN

from refusion.config import config_from_dict, model_config_from_dict
from refusion.config.official.model import official_model
from refusion.config.official.options import is_official, official_run
from refusion.errors import ConfigError
from refusion.nets import NETS
from refusion.official.evaluate import official_test
from refusion.sde import build_sde

PIXEL, DENOISE, STEREO = 76_608_387, 76_606_659, 112_033_667
UNET, SHADOW_UNET = 137_147_523, 135_346_755
BOKEH, HAZE = 131_467_716, 76_617_032
IRSDE, DENOISING = ("IRSDE", 100, 0.005), ("DenoisingSDE", 1000, 0.04)
# folder, file, phase: parameters of the network, max_sigma, (SDE, T, eps), sampler
EXPECTED = {
    **{
        f"{folder}/options/{phase}/{name}.yml": (count, sigma, IRSDE, "euler")
        for folder, low in (
            ("deblurring", 10),
            ("deraining", 10),
            ("deshadow", 10),
            ("inpainting", 30),
            ("sisr", 30),
        )
        for phase in ("train", "test")
        for name, count, sigma in (("ir-sde", UNET, low), ("refusion", PIXEL, 50))
    },
    "deshadow/options/test/ir-sde.yml": (SHADOW_UNET, 30, IRSDE, "euler"),
    "deraining/options/test/ir-sde.yml": (UNET, 10, IRSDE, "posterior"),
    "denoising-sde/options/train/refusion.yml": (DENOISE, 70, DENOISING, "ode"),
    "denoising-sde/options/test/refusion.yml": (DENOISE, 70, DENOISING, "ode"),
    "denoising-sde/options/train/ir-sde.yml": (137_137_091, 70, DENOISING, "ode"),
    "denoising-sde/options/test/ir-sde.yml": (
        137_137_091,
        75,
        ("DenoisingSDE", 100, 0.04),
        "ode",
    ),
    "stereo-sr/options/ssr/train/refusion.yml": (STEREO, 50, IRSDE, "euler"),
    "stereo-sr/options/ssr/test/refusion.yml": (STEREO, 50, IRSDE, "euler"),
    "latent-bokeh/options/bokeh/train/refusion.yml": (BOKEH, 50, IRSDE, "euler"),
    "latent-bokeh/options/bokeh/test/refusion.yml": (BOKEH, 50, IRSDE, "euler"),
    "latent-dehazing/options/dehazing/train/nasde.yml": (HAZE, 50, IRSDE, "euler"),
    "latent-dehazing/options/dehazing/test/nasde.yml": (HAZE, 50, IRSDE, "euler"),
}
LATENTS = {
    "unet-latent/options/train/train_bokeh.yml": (BOKEH_UNET, 6_155_139),
    "unet-latent/options/train/train_haze.yml": (HAZE_UNET, 2_007_859),
    "unet-latent/options/test/test_latent.yml": (HAZE_UNET, 2_007_859),
}
TASKS = {
    "deblurring": "deblur", "deraining": "derain", "deshadow": "deshadow", "inpainting": "inpaint",
    "sisr": "sr", "stereo-sr": "stereo_sr", "denoising-sde": "denoise",
    "latent-bokeh": "bokeh", "latent-dehazing": "dehaze",
}  # fmt: skip


def parameters(component):
    with torch.device("meta"):
        net = NETS[component.type](**component.settings)
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_table_is_complete():
    assert len(OPTIONS) == 33
    assert EXPECTED.keys() | LATENTS.keys() == OPTIONS.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_network_and_sde(name):
    count, max_sigma, (sde, T, eps), sampler = EXPECTED[name]
    model = model_config_from_dict(official_model(OPTIONS[name], name), name)
    assert model.task == TASKS[name.split("/")[0]]
    assert parameters(model.network) == count
    assert (model.sde.type, model.sde.settings["T"]) == (sde, T)
    process = build_sde({"type": sde, **model.sde.settings})
    assert process.lam == pytest.approx(max_sigma / 255)
    assert process.theta_bar[-1].item() == pytest.approx(-math.log(eps))
    assert (model.sampling.sampler, model.sampling.steps) == (sampler, T)
    assert model.prediction == "noise"


@pytest.mark.parametrize("name", LATENTS)
def test_latent_unet(name):
    settings, count = LATENTS[name]
    model = model_config_from_dict(official_model(OPTIONS[name], name), name)
    assert model.network is None
    assert {key: model.latent_unet.settings[key] for key in settings} == settings
    assert parameters(model.latent_unet) == count
    assert model.task == ("bokeh" if "bokeh" in name else "dehaze")


@pytest.mark.parametrize(
    ("name", "latent", "wiring"),
    [("latent-bokeh/options/bokeh/test/refusion.yml", BOKEH_UNET, "pixel"),
     ("latent-dehazing/options/dehazing/test/nasde.yml", HAZE_UNET, "latent")],
)  # fmt: skip
def test_latent_models(name, latent, wiring):
    model = official_model(OPTIONS[name], name)
    assert model["latent_unet"] == {"type": "LatentUNet", "in_ch": 3, "out_ch": 3, **latent}
    assert model["network"]["wiring"] == wiring
    assert model["network"].get("lens", False) == (wiring == "pixel")


@pytest.mark.parametrize("name", TRAIN)
def test_training_file_is_a_run(name):
    raw = copy.deepcopy(TRAIN[name])
    assert is_official(raw)
    config = config_from_dict(official_run(raw, name), name)
    assert raw == TRAIN[name]  # not changed in passing
    train = raw["train"]
    assert config.train.steps == train["niter"]
    assert config.train.optimizer.type == train["optimizer"]
    assert config.train.optimizer.lr == train["lr_G"]
    assert config.train.optimizer.betas == (0.9, 0.99)
    assert (config.train.grad_clip, config.train.precision) == (None, "fp32")
    assert config.train.validate_every == train["val_freq"]
    assert config.data.batch_size == raw["datasets"]["train"]["batch_size"]
    assert config.data.train.settings["patch"] == raw["datasets"]["train"]["GT_size"]
    schedule = config.train.lr_schedule
    if train["lr_scheme"] == "MultiStepLR":
        assert schedule.milestones == (200_000, 400_000, 600_000)
        assert (schedule.type, schedule.gamma) == ("multistep", 0.5)
    else:
        assert (schedule.type, schedule.eta_min) == ("cosine", train["eta_min"])
    averaged = "bokeh" not in name and "unet-latent" not in name
    assert config.train.ema_decay == (0.995 if averaged else 0)
    assert config.train.ema_every == (10 if averaged else 1)
    assert config.stage == ("latent_unet" if "unet-latent" in name else "diffusion")
    assert config.objective is None or config.objective.type == "maximum_likelihood"


def section(name, key="train"):
    run = official_run(TRAIN[name], name)["data"]
    return run["train"] if key == "train" else run["validation"][0]


def test_paired_folders():
    found = section("deraining/options/train/ir-sde.yml")
    folders = {"lq": "datasets/rain/trainH/LQ", "gt": "datasets/rain/trainH/GT"}
    crops = {"patch": 128, "flip": True, "rotate": True}
    assert found == {"type": "PairedFolder", **folders, **crops}
    found = section("deraining/options/train/ir-sde.yml", "validation")
    folders = {"lq": "datasets/rain/testH/LQ", "gt": "datasets/rain/testH/GT"}
    assert found == {"name": "Val_Dataset", "type": "PairedFolder", **folders}


def test_super_resolution():
    name = "sisr/options/train/ir-sde.yml"
    assert section(name)["scale"] == section(name, "validation")["scale"] == 4
    assert official_run(TRAIN[name], name)["upscale"] == {"factor": 4, "mode": "bicubic"}
    name = "stereo-sr/options/ssr/train/refusion.yml"
    found = section(name)
    assert (found["type"], found["scale"], found["flip"], "rotate" in found) == (
        "StereoFolder", 4, False, False,
    )  # fmt: skip
    assert official_run(TRAIN[name], name)["upscale"] == {"factor": 4, "mode": "bicubic"}


def test_degradations_of_clean_photos():
    found = section("denoising-sde/options/train/ir-sde.yml")
    assert found["type"] == "SyntheticPairs"
    assert found["folders"] == ["DATA/ziwlu/datasets/trainHR"]
    assert found["degradation"] == {"type": "GaussianNoise", "sigma": [50, 50]}
    assert found["scale_range"] is None
    found = section("inpainting/options/train/ir-sde.yml", "validation")
    assert found["degradation"] == {"type": "Mask", "folder": "datasets/gt_keep_masks/thin"}
    assert found["whole"] is True
    assert found["max_side"] > 20_000


def test_bokeh_and_swap():
    found = section("unet-latent/options/train/train_bokeh.yml")
    assert (found["type"], found["swap"], found["patch"]) == ("BokehFolder", 0.5, 256)
    assert found["folder"] == "DATA/bokeh/train"
    name = "latent-bokeh/options/bokeh/train/refusion.yml"
    assert official_run(TRAIN[name], name)["latent_unet"] == {
        "checkpoint": "pretrained_models/latent-bokeh.pth"
    }


@pytest.mark.parametrize("name", TEST)
def test_testing_file(name):
    raw = TEST[name]
    found = official_test(raw, name)
    assert [part.name for part in found.sets] == [d["name"] for d in raw["datasets"].values()]
    paths = [raw["path"].get(f"pretrain_model_{key}") for key in "GL"]
    if "unet-latent" in name:
        paths.reverse()
    files = found.files.network, found.files.latent_unet
    assert [path and str(path) for path in files] == paths
    alone = {d["name"] for d in raw["datasets"].values() if d["mode"] in ("LQ", "SteLQ")}
    assert {part.name for part in found.sets if part.settings.get("gt", "") is None} == alone


def test_sets_without_ground_truth():
    def only_set(name):
        (found,) = official_test(TEST[name], name).sets
        return found.type, found.settings

    lq = "DATA/ntire2023/dehazing/test"
    assert only_set("latent-dehazing/options/dehazing/test/nasde.yml") == (
        "PairedFolder", {"lq": lq, "gt": None},
    )  # fmt: skip
    lq = "DATA/stereo-sr/test/LR_x4"
    assert only_set("stereo-sr/options/ssr/test/refusion.yml") == (
        "StereoFolder", {"lq": lq, "gt": None, "scale": 4},
    )  # fmt: skip
    # Whether there is ground truth, the dataset sees by the endings in the folder.
    assert only_set("latent-bokeh/options/bokeh/test/refusion.yml") == (
        "BokehFolder", {"folder": "DATA/bokeh/ntire_val"},
    )  # fmt: skip


def test_noise_levels_and_enlargement_of_testing_files():
    found = official_test(TEST["denoising-sde/options/test/refusion.yml"], "a.yml")
    assert [part.name for part in found.sets] == ["McMaster", "Kodak24", "CBSD68"]
    noise = found.sets[0].settings["degradation"]
    assert (noise.type, noise.settings) == ("GaussianNoise", {"sigma": (15, 15)})
    moved = ("data.validation.1.folders=[photos]",)
    told = official_test(TEST["denoising-sde/options/test/refusion.yml"], "a.yml", moved)
    assert [part.settings["folders"] for part in told.sets][1] == ["photos"]
    released = official_test(TEST["sisr/options/test/ir-sde.yml"], "a.yml").model.upscale
    assert (released.factor, released.mode) == (4, "nearest")
    with pytest.raises(ConfigError, match=r"a\.yml: path\.pretrain_model_G: missing or null"):
        official_test(TEST["sisr/options/test/ir-sde.yml"], "a.yml").read()


def edited(change, name="deraining/options/train/ir-sde.yml"):
    raw = copy.deepcopy(OPTIONS[name])
    change(raw)
    return raw


def deleter(*keys):
    def change(raw):
        for key in keys[:-1]:
            raw = raw[key]
        del raw[keys[-1]]

    return change


def setter(*keys, value):
    def change(raw):
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = value

    return change


WRONG = [
    (deleter("sde", "max_sigma"), "sde.max_sigma: missing"),
    (deleter("datasets", "train", "dataroot_GT"), "datasets.train.dataroot_GT: missing"),
    (deleter("train"), "train: missing: this file is for testing"),
    (setter("train", "niter", value="many"), "train.niter: expected a number, got 'many'"),
    (setter("train", "niter", value=0.5), "train.niter: expected a whole number"),
    (setter("train", "optimizer", value="Lino"), "train.optimizer: .*did you mean 'Lion'"),
    (setter("train", "lr_scheme", value="TrueCosine"), "train.lr_scheme: unknown schedule"),
    (
        setter("network_G", "which_model_G", value="ConditionalUnet"),
        "did you mean 'ConditionalUNet",
    ),
    (setter("distortion", value="derian"), "distortion: .*did you mean 'derain'"),
    (setter("datasets", "train", "mode", value="LQGTker"), "datasets.train.mode: unknown mode"),
    (setter("datasets", "train", "dataroot_LQ", value="a/b.lmdb"), "is an LMDB"),
    (setter("sde", "sampling_mode", value="rk45"), "sde.sampling_mode: unknown sampler"),
    (setter("path", value=3), "path: expected a section, got 3"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_errors_name_file_and_key(change, message):
    with pytest.raises(ConfigError, match=rf"^their\.yml: {message}|^their\.yml: .*{message}"):
        official_run(edited(change), "their.yml")


def test_numbers_that_yaml_reads_as_text():
    raw = edited(setter("train", "lr_G", value="1e-4"))
    assert official_run(raw, "a.yml")["train"]["optimizer"]["lr"] == 1e-4
    raw = edited(setter("sde", "max_sigma", value=0.2))
    assert official_run(raw, "a.yml")["sde"]["max_sigma"] == pytest.approx(51)


def test_keys_that_change_results_but_are_not_followed_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        official_run(OPTIONS["deraining/options/train/ir-sde.yml"], "a.yml")
    assert not caplog.records
    changes = {
        "train.lr_gamma": 0.1,
        "train.weight": 2.0,
        "train.is_weighted": True,
        "path.resume_state": "log/5.state",
        "datasets.train.color": "y",
        "network_G.setting.nfe": 4,
    }
    for key, value in changes.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            official_run(edited(setter(*key.split("."), value=value)), "a.yml")
        assert [r.getMessage().startswith(f"a.yml: {key}: ignored") for r in caplog.records] == [
            True
        ]


def test_weights_to_start_from():
    raw = edited(setter("path", "pretrain_model_G", value="old.pth"))
    assert official_run(raw, "a.yml")["init"] == "old.pth"
    assert "init" not in official_run(TRAIN["deraining/options/train/ir-sde.yml"], "a.yml")


@pytest.mark.parametrize("raw", [None, [], {}, {"network": {}, "data": {}}, {"network_G": {}}])
def test_our_own_files_are_not_taken_for_theirs(raw):
    assert not is_official(raw)
