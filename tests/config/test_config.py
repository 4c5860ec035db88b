"""The config: what is accepted, and the exact words of what is refused."""

from __future__ import annotations

import copy
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from config_cases import DELETE, DIFFUSION, ERRORS, TABLES, changed, read

from refusion.config import (
    ModelConfig,
    config_from_dict,
    config_to_dict,
    load_config,
    model_config,
    model_config_from_dict,
    read_yaml,
)
from refusion.config.parser import Component, Parser, to_plain
from refusion.config.sections import LatentCheckpoint, SamplingConfig
from refusion.errors import ConfigError
from refusion.training.paths import check_paths

ROOT = Path(__file__).parents[2]


def test_values_arrive_typed():
    config = read(changed())
    assert config.latent_unet == LatentCheckpoint("runs/u/model.safetensors")
    assert config.network == Component(
        "Net", {"img_channel": 8, "blocks": [1, 1, 8], "wiring": "latent"}
    )
    assert config.sde.settings == {"max_sigma": 50.0, "T": 100}
    assert type(config.sde.settings["max_sigma"]) is float  # an int is accepted for a float
    assert config.sampling == SamplingConfig("posterior", 4)
    assert config.data.train.settings["scale_range"] == (0.25, 1.0)
    assert (config.data.validation[0].name, config.data.validation[0].type) == ("a", "Pairs")
    assert config.train.optimizer.lr == 4e-5


def test_defaults_are_those_documented():
    config = read(changed())
    assert (config.data.workers, config.data.cached_latents) == (1, 0)
    train = config.train
    assert train.optimizer.betas == (0.9, 0.99)
    assert train.optimizer.weight_decay == 0
    assert (train.lr_schedule.type, train.lr_schedule.warmup_steps) == ("cosine", 0)
    assert train.lr_schedule.eta_min == 1e-7
    assert (train.ema_decay, train.grad_clip, train.precision, train.seed) == (0.999, 1, "auto", 0)
    assert (train.log_every, train.validate_every, train.checkpoint_every) == (50, 1000, 500)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(changed()).name = "other"


def test_round_trip_is_the_identity_also_through_yaml():
    config = read(changed(train__grad_clip=None, data__train__haze={"density": 1}))
    plain = config_to_dict(config)
    assert read(plain) == config
    assert read(yaml.safe_load(yaml.safe_dump(plain))) == config
    assert plain["data"]["validation"] == [{"name": "a", "type": "Pairs", "lq": "lq", "gt": "gt"}]


def test_a_run_by_time_has_intervals_of_its_own_and_a_run_by_steps_those_of_before():
    by_time = read(changed(train__steps=None, train__minutes=9)).train
    assert (by_time.steps, by_time.minutes) == (None, 9.0)
    assert (by_time.validate_every, by_time.checkpoint_every) == (None, None)
    both = read(changed(train__minutes=9, train__validate_every=7)).train
    assert (both.steps, both.validate_every, both.checkpoint_every) == (20000, 7, None)
    by_steps = read(changed()).train
    assert (by_steps.validate_every, by_steps.checkpoint_every) == (1000, 500)
    plain = config_to_dict(read(changed(train__steps=None, train__minutes=9)))
    assert read(plain).train == by_time


def test_parsing_leaves_its_input_alone():
    raw = changed()
    before = copy.deepcopy(raw)
    read(raw)
    assert raw == before


@pytest.mark.parametrize(("edits", "message"), ERRORS, ids=[m.split(";")[0] for _, m in ERRORS])
def test_errors_name_file_key_and_remedy(edits: dict, message: str):
    with pytest.raises(ConfigError) as error:
        read(changed(**edits))
    assert str(error.value) == f"options/x.yml: {message}"


def test_validation_names_must_differ():
    raw = changed()
    raw["data"]["validation"] *= 2
    with pytest.raises(ConfigError, match=r"data\.validation: names must differ, got a, a"):
        read(raw)


@pytest.mark.parametrize("raw", [None, 3, [1], "text"])
def test_a_file_that_is_no_mapping_is_refused(raw: object):
    with pytest.raises(ConfigError, match=r"^options/x\.yml: expected a section"):
        read(raw)


def test_latent_stage_needs_only_its_unet():
    edits = dict.fromkeys(("network", "sde", "prediction", "objective", "sampling"), DELETE)
    raw = changed(stage="latent_unet", latent_unet={"type": "Unet"}, **edits)
    assert read(raw).latent_unet == Component("Unet")
    raw["data"]["cached_latents"] = 1
    with pytest.raises(ConfigError, match="only stage diffusion can train on latents"):
        read(raw)


@pytest.fixture
def options_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yml"
    path.write_text(DIFFUSION, encoding="utf-8")
    return path


def test_a_missing_file_suggests_a_neighbour(options_file: Path):
    with pytest.raises(ConfigError, match=r"toi\.yml: no such file; did you mean 'toy\.yml'\?"):
        load_config(options_file.with_name("toi.yml"))


def test_broken_yaml_is_told_with_its_line(options_file: Path):
    options_file.write_text("name: dehaze\ntrain: {steps: 3", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)toy\.yml: cannot be read as YAML: .*line 2"):
        load_config(options_file)


@pytest.mark.parametrize("content", [b"name: 2026-13-45", b"name: \xff", b"[" * 5000])
def test_what_no_yaml_parser_takes_is_an_error_too(tmp_path: Path, content: bytes):
    (tmp_path / "a.yml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.yml: cannot be read as YAML"):
        read_yaml(tmp_path / "a.yml")
    with pytest.raises(ConfigError, match=r"/empty/b\.yml: no such file$"):
        read_yaml(tmp_path / "empty" / "b.yml")


def test_yaml_cannot_construct_objects(options_file: Path):
    options_file.write_text("name: !!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load_config(options_file)


def test_missing_paths_are_found_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = read(changed())
    steps = [
        ("latent_unet.checkpoint: no such file: runs/u/model.safetensors", "runs/u"),
        ("data.train.folders: no such folder: clean", "clean"),
        ("data.validation.0.gt: no such folder: gt", "gt"),
        ("data.validation.0.lq: no such folder: lq", "lq"),
    ]
    for message, folder in steps:
        with pytest.raises(ConfigError, match=f"^{re.escape(message)} \\(relative paths start at"):
            check_paths(config)
        Path(folder).mkdir(parents=True)
        if folder == "runs/u":
            Path(folder, "model.safetensors").touch()
    check_paths(config)


def test_model_config_takes_what_inference_needs():
    config = read(changed())
    with pytest.raises(ConfigError, match=r"latent_unet: read runs/u/model\.safetensors first"):
        model_config(config)
    model = model_config(config, Component("Unet", {"embed_dim": 8}))
    plain = config_to_dict(model)
    assert set(plain) == {
        "task",
        "latent_unet",
        "network",
        "sde",
        "prediction",
        "sampling",
        "upscale",
    }
    assert model_config_from_dict(plain, "m", TABLES.__getitem__) == model


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"futur": 1}, "m: futur: unknown key; expected one of: latent_unet, network, plugins"),
        ({"sde": None}, "m: sde: required by a model with a network"),
        ({"network": None, "latent_unet": None}, "m: network: a model needs a network"),
        ({"sampling": {"sampler": "euler", "steps": 500}}, "m: sampling.steps: 500 exceeds"),
        ({"latent_unet": {"type": "Unet", "embed_dim": 4}},
         "m: network: takes 8 channels but the latent has 4 (latent_unet.embed_dim)"),
        ({"latent_unet": {"checkpoint": "x"}}, "m: latent_unet.type: required key is missing"),
    ],
)  # fmt: skip
def test_model_config_errors(edits: dict, message: str):
    plain = config_to_dict(model_config(read(changed()), Component("Unet", {"embed_dim": 8})))
    with pytest.raises(ConfigError, match=re.escape(message)):
        model_config_from_dict({**plain, **edits}, "m", TABLES.__getitem__)


@pytest.mark.parametrize(
    ("latent", "network", "message"),
    [
        ({"embed_dim": 4}, {"type": "ConditionalUNet"}, "takes 3 channels but the latent has 4"),
        ({}, {"type": "ConditionalNAFNet"}, "takes 3 channels but the latent has 8"),
        ({}, {"type": "ConditionalUNet", "in_nc": 8}, "takes 3 channels but the latent has 8"),
        (None, {"type": "ConditionalUNet", "out_nc": 4}, "takes 4 channels but a photo has 3"),
    ],
)
def test_channels_that_are_defaults_are_checked(latent: dict, network: dict, message: str):
    plain = {
        "task": "dehaze",
        "latent_unet": latent if latent is None else {"type": "LatentUNet", **latent},
        "network": network,
        "sde": {"type": "IRSDE", "max_sigma": 50},
        "prediction": "noise",
        "sampling": {"sampler": "posterior", "steps": 2},
    }
    with pytest.raises(ConfigError, match=f"m: network: {message}"):
        model_config_from_dict(plain, "m")


def test_a_guide_is_that_of_the_latent_unet_and_of_the_photos_pixels():
    plain = {
        "task": "bokeh",
        "latent_unet": {"type": "LatentUNet", "in_ch": 5, "embed_dim": 4},
        "network": {"type": "ConditionalNAFNet", "img_channel": 4, "guide": 2},
        "sde": {"type": "IRSDE", "max_sigma": 50, "T": 100},
        "prediction": "noise",
        "sampling": {"sampler": "posterior", "steps": 1},
    }
    assert model_config_from_dict(plain).guide == 2
    plain["network"].pop("guide")  # the U-Net may be told alone
    assert model_config_from_dict(plain).guide == 2
    plain["network"]["guide"] = 1
    with pytest.raises(
        ConfigError, match=r"network\.guide: expected 0, or the 2 channels .* got 1"
    ):
        model_config_from_dict(plain)
    plain["network"]["guide"] = 2
    small = plain | {"sampling": {"sampler": "posterior", "steps": 1, "process_side": 512}}
    with pytest.raises(
        ConfigError, match=r"sampling\.process_side: a guide describes the photo's own"
    ):
        model_config_from_dict(small)
    with pytest.raises(ConfigError, match=r"network\.guide: expected 0, or the 0 channels"):
        model_config_from_dict(plain | {"latent_unet": None})


def test_a_latent_unet_alone_is_a_model():
    model = ModelConfig("dehaze", Component("Unet", {}))
    assert model_config_from_dict(to_plain(model), "m", TABLES.__getitem__) == model


def test_annotations_for_type_checkers_only_still_check_the_keys():
    class Late:
        def __init__(self, *, width: Undefined) -> None: ...  # noqa: F821

    tables = {**TABLES, "nets": {"Late": Late}}
    raw = {"task": "t", "latent_unet": {"type": "Late", "widht": 1}}
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        Parser("m", tables.__getitem__).parse(ModelConfig, raw)
    raw["latent_unet"] = {"type": "Late", "width": "anything"}
    assert Parser("m", tables.__getitem__).parse(ModelConfig, raw).latent_unet.type == "Late"


def test_importing_the_config_does_not_import_torch():
    code = "import refusion.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_old_keys_are_read_with_a_warning_and_from_checkpoints_without(caplog):
    plain = config_to_dict(read(changed()))
    new = copy.deepcopy(plain)
    new["sampling"]["process_side"] = 640
    old = copy.deepcopy(plain)
    del old["sampling"]["process_side"]
    old["sampling"]["side"] = 640
    expected = config_from_dict(new, "c", TABLES.__getitem__)
    assert not caplog.messages
    assert config_from_dict(old, "c", TABLES.__getitem__) == expected
    assert caplog.messages == ["c: sampling.side is now called process_side"]
    both = old | {"sampling": old["sampling"] | {"process_side": 320}}
    config = config_from_dict(both, "c", TABLES.__getitem__)
    assert config.sampling.process_side == 320
    assert caplog.messages[-1].endswith("both are given, the later one is used")


@pytest.mark.parametrize("key", ["side", "process_side"])
@pytest.mark.parametrize("in_file", ["side", "process_side"])
def test_an_override_counts_under_the_old_and_the_new_name(tmp_path, key, in_file):
    text = (ROOT / "options" / "dehaze_small.yml").read_text(encoding="utf-8")
    (tmp_path / "a.yml").write_text(text.replace("process_side:", f"{in_file}:"), encoding="utf-8")
    config = load_config(tmp_path / "a.yml", [f"sampling.{key}=512"])
    assert config.sampling.process_side == 512


def test_checkpoints_with_old_keys_load_without_a_warning(caplog):
    plain = {
        "task": "deshadow",
        "network": {"type": "ConditionalNAFNet", "fold": 2},
        "sde": {"type": "IRSDE", "max_sigma": 50, "T": 100},
        "prediction": "noise",
        "sampling": {"sampler": "posterior", "steps": 1, "side": 384},
    }
    model = model_config_from_dict(plain)
    assert model.network.settings == {"pixel_unshuffle": 2}
    assert model.sampling.process_side == 384
    assert not caplog.messages
