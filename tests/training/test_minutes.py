"""Runs by wall time: they end in time, whatever they do, and go on with more time."""

import logging
import re
import time
from itertools import pairwise

import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.cli.train import run
from refusion.config import config_to_dict
from refusion.devices.processes import World
from refusion.training import Trainer
from refusion.training.validation import validate

CPU = torch.device("cpu")
BY_TIME = TRAIN | dict.fromkeys(("steps", "validate_every", "checkpoint_every")) | {"log_every": 50}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("minutes") / "photos")


@pytest.fixture
def config_of(photos):
    def make(stage, minutes, **changes):
        train = BY_TIME | {"minutes": minutes} | changes.pop("train", {})
        return run_config(stage, photos, photos.parent / "cache", train=train, **changes)

    return make


def slowed(monkeypatch, sample_s=0.0, photo_s=0.0, saving_s=0.0):
    """Delay each training sample, each validation photo and each saving."""
    from refusion.training import trainer, validation, workers

    def slow(function, seconds):
        def called(*args, **settings):
            time.sleep(seconds)
            return function(*args, **settings)

        return called

    monkeypatch.setattr(workers, "_checked", slow(workers._checked, sample_s))
    monkeypatch.setattr(validation, "make_sample", slow(validation.make_sample, photo_s))
    monkeypatch.setattr(trainer, "save_state", slow(trainer.save_state, saving_s))


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
@pytest.mark.parametrize(
    ("stage", "workers", "slow"),
    [
        ("latent_unet", 1, {"sample_s": 0.15, "photo_s": 0.1, "saving_s": 0.2}),
        ("diffusion", 0, {"sample_s": 0.02, "photo_s": 0.5, "saving_s": 0.1}),
        ("diffusion", 2, {"sample_s": 0.3}),
    ],
)
def test_the_run_ends_in_time_and_uses_it(
    photos, tmp_path, monkeypatch, config_of, stage, workers, slow
):
    """Half a minute; at most 5 % more."""
    slowed(monkeypatch, **slow)
    raw = config_to_dict(config_of(stage, 0.5))
    raw["data"]["workers"] = workers
    options = tmp_path / "run.yml"
    options.write_text(yaml.safe_dump(raw))
    begun = time.monotonic()
    argv = ["-opt", str(options), "--runs", str(tmp_path), "--quiet", "--device", "cpu"]
    assert run([*argv, "--export", str(tmp_path / "small.safetensors")]) == 0
    spent = time.monotonic() - begun
    assert 20 < spent < 30 * 1.05
    folder = tmp_path / f"tiny_{stage}"
    info = read_checkpoint(folder / "model.safetensors").info
    state = torch.load(folder / "state.pt", weights_only=True)
    assert info["step"] == state["step"] > 3
    assert 20 < state["budget"]["used_s"] < 30
    assert info["scores"] and (folder / "best.safetensors").is_file()
    assert (tmp_path / "small.safetensors").is_file()


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
def test_more_minutes_continue_and_the_same_minutes_end_at_once(config_of, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = Trainer(config_of("diffusion", 0.06), device=CPU, runs=tmp_path)
    first.train()
    again = Trainer(config_of("diffusion", 0.06), device=CPU, runs=tmp_path)
    again.train()
    assert again.step == first.step > 0
    assert again.scores == first.scores
    begun = time.monotonic()
    more = Trainer(config_of("diffusion", 0.11), device=CPU, runs=tmp_path)
    more.train()
    assert more.step > first.step
    assert 1 < time.monotonic() - begun < 3.5  # 0.05 minutes remain, less what `again` took
    assert caplog.text.count("validation at step 0: whole/input/psnr") == 1


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
def test_the_learning_rate_falls_to_the_end_of_the_time(config_of, tmp_path):
    rates = []
    trainer = Trainer(config_of("diffusion", 0.06), device=CPU, runs=tmp_path)
    trainer.train(lambda *_: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    assert rates[0] > 0.5e-3
    assert rates[-1] < 0.1e-3
    assert sum(a < b for a, b in pairwise(rates)) < len(rates) / 4


def test_steps_that_end_first_give_the_bits_of_a_run_by_steps(config_of, tmp_path):
    """The time changes nothing but the schedule, which is constant here."""
    weights = []
    for minutes in (None, 60):
        train = {"steps": 4, "lr_schedule": {"type": "constant"}}
        config = config_of("diffusion", minutes, train=train)
        trainer = Trainer(config, device=CPU, runs=tmp_path / str(minutes))
        trainer.train()
        assert trainer.step == 4
        weights.append(trainer.weights())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
def test_saved_and_validated_at_parts_of_the_time(config_of, tmp_path, monkeypatch):
    trainer = Trainer(config_of("diffusion", 0.1), device=CPU, runs=tmp_path)
    saved, save = [], trainer.save
    monkeypatch.setattr(trainer, "save", lambda: (saved.append(trainer.budget.now()), save()))
    validated = []
    monkeypatch.setattr(
        "refusion.training.trainer.validate",
        lambda *args, **how: (validated.append(args[2]), validate(*args, **how))[1],
    )
    trainer.train()
    assert 6 <= len(saved) <= 12
    assert validated[0] == 0 and validated[-1] == trainer.step
    assert 4 <= len(validated) <= 7


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
def test_a_slow_validation_measures_the_same_fewer_photos_each_time(
    config_of, tmp_path, monkeypatch, caplog
):
    slowed(monkeypatch, photo_s=0.15)
    trainer = Trainer(config_of("diffusion", 0.1), device=CPU, runs=tmp_path)
    trainer.train()  # 1/20 of 6 s are 0.3 s
    assert trainer.budget.photos["whole"] in (1, 2)
    lines = re.findall(r"validation: \d of 3 photos of set 'whole' are used.*", caplog.text)
    assert len(lines) == 1 and "raise train.minutes" in lines[0]


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
def test_a_validation_of_most_of_the_time_is_left_out(config_of, tmp_path, monkeypatch, caplog):
    slowed(monkeypatch, photo_s=6)
    trainer = Trainer(config_of("diffusion", 0.32), device=CPU, runs=tmp_path)
    begun = time.monotonic()
    trainer.train()
    assert time.monotonic() - begun < 19.2 * 1.05
    assert trainer.step > 0 and trainer.scores
    assert "so it is not repeated; use fewer or smaller photos" in caplog.text


def test_no_time_for_a_step_is_one_line(config_of, tmp_path, monkeypatch, caplog):
    slowed(monkeypatch, saving_s=1)
    trainer = Trainer(config_of("diffusion", 0.03), device=CPU, runs=tmp_path)
    trainer.train()
    assert trainer.step == 0 and trainer.model_file.is_file()
    assert "no time was left for a step" in caplog.text


@pytest.mark.slow  # its limits hold on a machine that is not overloaded
def test_latents_take_a_quarter_of_the_time_at_most(config_of, tmp_path, monkeypatch, caplog):
    unet = Trainer(config_of("latent_unet", None, train={"steps": 1}), device=CPU, runs=tmp_path)
    unet.train()
    plain = config_to_dict(config_of("diffusion", 0.36))
    network = plain["network"] | {"img_channel": 4, "wiring": "latent"}
    data = plain["data"] | {"cached_latents": 100, "refresh_latents": 5}
    changes = {"latent_unet": {"checkpoint": str(unet.model_file)}, "network": network}
    slowed(monkeypatch, sample_s=0.3)
    config = config_of("diffusion", 0.36, data=data, **changes)
    trainer = Trainer(config, device=CPU, runs=tmp_path)
    begun = time.monotonic()
    trainer.train()
    assert time.monotonic() - begun < 21.6 * 1.05
    assert trainer.step > 5  # at least two rounds
    assert re.search(r"uses \d+ pairs instead of 100; lower data.cached_latents", caplog.text)


def test_a_run_by_steps_does_not_take_fewer_latents(config_of, tmp_path, monkeypatch):
    unet = Trainer(config_of("latent_unet", None, train={"steps": 1}), device=CPU, runs=tmp_path)
    unet.train()
    plain = config_to_dict(config_of("diffusion", 9))
    network = plain["network"] | {"img_channel": 4, "wiring": "latent"}
    data = plain["data"] | {"cached_latents": 10}
    changes = {"latent_unet": {"checkpoint": str(unet.model_file)}, "network": network}
    counts = []
    for minutes, limit_s in ((9, 0.0), (9, 100.0), (None, None)):
        train = {} if minutes else {"steps": 4}
        config = config_of("diffusion", minutes, data=data, train=train, **changes)
        run = Trainer(config, device=CPU, runs=tmp_path)
        monkeypatch.setattr(run.budget, "encoding_limit", lambda limit_s=limit_s: limit_s)
        next(run._batches())
        counts.append(len(load_file(run.folder / "latents.safetensors")["mu"]))
    assert counts == [2, 2, 10]


def test_processes_agree_on_the_largest_time(config_of, tmp_path, monkeypatch):
    monkeypatch.setattr(World, "largest", lambda self, values: [v + 100 for v in values])
    trainer = Trainer(config_of("diffusion", 9), device=CPU, runs=tmp_path)
    trainer._agree()
    assert trainer.budget.used_s > 100 and trainer.budget.reserve_s > 100
