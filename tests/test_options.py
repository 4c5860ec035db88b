"""Every experiment file in options/ is valid and what its comments promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusion.config import config_from_dict, config_to_dict, find_table, load_config
from refusion.config.parser import Component, to_plain
from refusion.config.sections import LatentCheckpoint
from refusion.sde import build_sde

OPTIONS = Path(__file__).parent.parent / "options"
FILES = sorted(OPTIONS.glob("*.yml"))


def test_the_files_are_found():
    assert {"dehaze.yml", "dehaze_unet.yml", "toy.yml", "toy_unet.yml"} <= {p.name for p in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
class TestEveryFile:
    def test_loads_and_round_trips(self, path: Path):
        config = load_config(path)
        assert config_from_dict(config_to_dict(config), str(path)) == config

    def test_run_folder_is_the_file_name(self, path: Path):
        assert load_config(path).name == path.stem

    def test_every_value_of_the_training_is_spelled_out(self, path: Path):
        """A reader sees each choice in the file, not in the defaults of the code."""
        config = load_config(path)
        text = path.read_text(encoding="utf-8")
        for key in ("batch_size", "betas", "ema_decay", "grad_clip", "precision", "seed"):
            assert f"{key}: " in text
        assert config.train.steps % config.train.checkpoint_every == 0

    def test_networks_and_sde_can_be_built(self, path: Path):
        config = load_config(path)
        for component in (config.network, config.latent_unet):
            if isinstance(component, Component):
                with torch.device("meta"):
                    net = find_table("nets")[component.type](**component.settings)
                assert sum(p.numel() for p in net.parameters()) > 1000
        if config.sde is not None and "max_sigma" in config.sde.settings:
            assert build_sde(to_plain(config.sde)).lam == config.sde.settings["max_sigma"] / 255


STAGES = [p for p in FILES if isinstance(load_config(p).latent_unet, LatentCheckpoint)]


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_the_second_stage_continues_the_first(path: Path):
    second = load_config(path)
    run = Path(second.latent_unet.checkpoint).parent
    first = load_config(OPTIONS / f"{run.name}.yml")
    assert second.latent_unet == LatentCheckpoint(f"runs/{first.name}/model.safetensors")
    if first.network is None:
        embed_dim = first.latent_unet.settings["embed_dim"]
        assert second.network.settings["img_channel"] == embed_dim
    else:  # both networks go on from there
        assert second.init == second.latent_unet.checkpoint
        for key in ("network", "sde", "prediction"):
            assert getattr(second, key) == getattr(first, key)
    assert first.task == second.task
    # what one stage held out must not be trained on by the other
    for key in ("folders", "folder", "lq", "gt", "split", "held_out"):
        assert first.data.train.settings.get(key) == second.data.train.settings.get(key)
    kinds = [run.data.train.settings.get("degradation") for run in (first, second)]
    assert len({kind and kind.type for kind in kinds}) == 1


# Millions of parameters, counted from the authors' code.
PUBLISHED = {
    "derain": 76.61,
    "derain_irsde": 137.15,
    "dehaze": 76.61,
    "dehaze_unet": 2.008,
    "bokeh": 131.47,
    "bokeh_unet": 6.155,
    "diffbir_stage1": 15.793,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str):
    config = load_config(OPTIONS / f"{name}.yml")
    component = config.network or config.latent_unet
    with torch.device("meta"):
        net = find_table("nets")[component.type](**component.settings)
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[name], rel=2e-3)


def test_every_task_has_its_files():
    stems = {path.stem for path in FILES}
    tasks = {"dehaze", "deshadow", "bokeh", "derain", "deblur", "denoise", "sr", "stereo_sr"}
    assert tasks | {"inpaint"} <= stems
    assert {f"{task}_unet" for task in ("dehaze", "bokeh")} <= stems
    assert {
        f"{task}_small" for task in ("dehaze", "deshadow", "bokeh", "blind", "denoise")
    } <= stems
    assert {f"{task}_irsde" for task in ("derain", "deblur", "deshadow", "inpaint")} <= stems
