"""Values that `--set` gives in place of those of an option file, and how errors name them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from config_cases import DIFFUSION, TABLES

from refusion.config import load_config
from refusion.errors import ConfigError


@pytest.fixture
def options_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yml"
    path.write_text(DIFFUSION, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("train.optimizer.lr=1e-4", lambda c: c.train.optimizer.lr == 1e-4),
        ("train.steps=7", lambda c: c.train.steps == 7),
        ("train.grad_clip=null", lambda c: c.train.grad_clip is None),
        ("network.blocks=[2, 3]", lambda c: c.network.settings["blocks"] == [2, 3]),
        ("data.validation.0.lq=a=b", lambda c: c.data.validation[0].settings["lq"] == "a=b"),
        ("train.lr_schedule.type=constant", lambda c: c.train.lr_schedule.type == "constant"),
        ("latent_unet=null", lambda c: c.latent_unet is None),
    ],
)
def test_overrides(options_file: Path, override: str, found):
    plain = load_config(options_file, (), TABLES.__getitem__)
    assert not found(plain)
    assert found(load_config(options_file, [override], TABLES.__getitem__))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=3", "--set train.stepz: unknown key; did you mean 'steps'?"),
        ("train.steps=x", "--set train.steps: expected a whole number, got the text 'x'"),
        ("train=3", "--set train: expected a section of 'key: value' lines, got 3"),
        ("data.train.x.0=1", "toy.yml with --set data.train.x.0: data.train.x: unknown key"),
        ("train.steps", "--set 'train.steps': write dotted.key=value, e.g. train.steps=1000"),
        ("=3", "--set '=3': write dotted.key=value, e.g. train.steps=1000"),
        ("name.x=3", "--set 'name.x=3': there is no 'x' to set there"),
        ("data.validation.4.lq=x", "--set 'data.validation.4.lq=x': there is no '4' to set"),
        ("train.steps=[", "--set 'train.steps=[': cannot be read as YAML"),
    ],
)
def test_wrong_overrides(options_file: Path, override: str, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(options_file, [override], TABLES.__getitem__)


def test_only_the_override_that_gave_a_wrong_value_is_named(options_file: Path):
    right, wrong = "train.optimizer.lr=1e-4", "train.steps=x"
    for overrides in ([right, wrong], [wrong, right]):
        with pytest.raises(ConfigError, match=r"^--set train\.steps: expected a whole number"):
            load_config(options_file, overrides, TABLES.__getitem__)
    options_file.write_text(DIFFUSION + "\nnome: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"toy\.yml: nome: unknown key"):
        load_config(options_file, [right], TABLES.__getitem__)
