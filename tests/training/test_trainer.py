"""The loop: interrupted or not, the same weights; a failed run loses nothing."""

import os
import signal
from itertools import pairwise

import pytest
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint, save_checkpoint
from refusion.config import config_to_dict
from refusion.devices.processes import World
from refusion.errors import CheckpointError, ConfigError, RefusionError
from refusion.restorers import load_restorer
from refusion.training import Trainer
from refusion.training.run_folder import run_lock

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for the signal that ends a run."""


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


@pytest.fixture
def config_of(photos, tmp_path):
    return lambda stage, **changes: run_config(stage, photos, tmp_path / "cache", **changes)


def kill_after(last):
    def progress(step, total, terms):
        if step == last:
            raise KilledError

    return progress


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stage", ["latent_unet", "diffusion"])
@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_interrupted_run_ends_with_the_same_bits(config_of, tmp_path, stage, killed_at):
    config = config_of(stage)
    straight = Trainer(config, device=CPU, runs=tmp_path / "straight")
    straight.train()
    with pytest.raises(KilledError):
        Trainer(config, device=CPU, runs=tmp_path / "killed").train(kill_after(killed_at))
    resumed = Trainer(config, device=CPU, runs=tmp_path / "killed")
    resumed.train()
    assert same(straight.module.state_dict(), resumed.module.state_dict())
    files = [read_checkpoint(t.model_file).tensors for t in (straight, resumed)]
    assert same(*files)
    assert straight.scores == resumed.scores


def test_the_seed_decides(config_of, tmp_path):
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        config = config_of("diffusion", train=TRAIN | {"seed": seed, "steps": 2})
        trainer = Trainer(config, device=CPU, runs=tmp_path / str(number))
        trainer.train()
        weights.append(trainer.weights())
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_global_generator_is_left_alone(config_of, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Trainer(config_of("diffusion"), device=CPU, runs=tmp_path).train()
    assert torch.equal(before, torch.get_rng_state())


def test_non_finite_loss_stops_and_keeps_the_checkpoint(config_of, tmp_path):
    trainer = Trainer(config_of("diffusion"), device=CPU, runs=tmp_path)

    def poison(step, total, terms):
        if step == 3:
            with torch.no_grad():
                trainer.parameters[0].fill_(float("nan"))

    with pytest.raises(RefusionError, match=r"loss is nan at step 3.*optimizer\.lr"):
        trainer.train(poison)
    kept = read_checkpoint(trainer.model_file)
    assert kept.info["step"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in kept.tensors.values())


def test_state_of_another_model_is_refused(config_of, tmp_path):
    Trainer(config_of("latent_unet"), device=CPU, runs=tmp_path).train()
    wider = {"type": "LatentUNet", "ch": 8, "ch_mult": [1, 2], "embed_dim": 4}
    other = Trainer(config_of("latent_unet", latent_unet=wider), device=CPU, runs=tmp_path)
    with pytest.raises(CheckpointError, match=r"state\.pt: belongs to another run"):
        other.train()


def test_another_process_is_another_model(config_of, tmp_path):
    Trainer(config_of("diffusion"), device=CPU, runs=tmp_path).train()
    sde = {"type": "IRSDE", "max_sigma": 10, "T": 50}
    with pytest.raises(
        CheckpointError, match=r"belongs to another run .*\(sde\.max_sigma, sde\.T\)"
    ):
        Trainer(config_of("diffusion", sde=sde), device=CPU, runs=tmp_path).train()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"task": "derain"}, "task"),
        ({"objective": {"type": "noise"}}, r"objective\.type"),
        ({"train": TRAIN | {"seed": 3}}, r"train\.seed"),
        (
            {"train": TRAIN | {"optimizer": {"type": "AdamW", "lr": 1e-3}}},
            r"train\.optimizer\.type",
        ),
    ],
)
def test_another_run_under_the_same_name_is_refused(config_of, tmp_path, change, key):
    first = Trainer(config_of("diffusion"), device=CPU, runs=tmp_path)
    first.train()
    before = first.model_file.read_bytes()
    with pytest.raises(CheckpointError, match=rf"belongs to another run .*\({key}\)"):
        Trainer(config_of("diffusion", **change), device=CPU, runs=tmp_path).train()
    assert first.model_file.read_bytes() == before


def test_what_else_changed_is_told_and_obeyed(config_of, tmp_path, caplog):
    Trainer(config_of("diffusion"), device=CPU, runs=tmp_path).train()
    optimizer = {"type": "Lion", "lr": 1e-3, "betas": [0.5, 0.6], "weight_decay": 0.3}
    train = TRAIN | {"optimizer": optimizer, "steps": 8, "log_every": 1}
    config = config_of("diffusion", train=train, plugins=["json"])
    trainer = Trainer(config, device=CPU, runs=tmp_path)
    trainer.train()
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.3
    assert tuple(trainer.optimizer.param_groups[0]["betas"]) == (0.5, 0.6)
    assert "train.steps 6 -> 8" in caplog.text and "weight_decay 0.0 -> 0.3" in caplog.text
    assert "log_every" not in caplog.text and "plugins" not in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_between_two_steps(config_of, tmp_path, caplog, number):
    straight = Trainer(config_of("diffusion"), device=CPU, runs=tmp_path / "straight")
    straight.train()
    config = config_of("diffusion", train=TRAIN | {"checkpoint_every": 100})
    stopped = Trainer(config, device=CPU, runs=tmp_path / "stopped")
    before = signal.getsignal(number)

    def stop(step, total, terms):
        if step == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        stopped.train(stop)
    assert "stopping after this step" in caplog.text
    assert signal.getsignal(number) is before
    assert read_checkpoint(stopped.model_file).info["step"] == 3
    resumed = Trainer(config, device=CPU, runs=tmp_path / "stopped")
    resumed.train()
    assert same(straight.weights(), resumed.weights())


def test_nothing_is_held_back_while_the_data_are_prepared(config_of, tmp_path, monkeypatch):
    trainer, before = (
        Trainer(config_of("diffusion"), device=CPU, runs=tmp_path),
        signal.getsignal(signal.SIGINT),
    )

    def prepare():
        assert signal.getsignal(signal.SIGINT) is before
        raise KilledError

    monkeypatch.setattr(trainer, "_batches", prepare)
    with pytest.raises(KilledError):
        trainer.train()


def test_two_processes_do_not_train_in_one_folder(config_of, tmp_path):
    trainer = Trainer(config_of("diffusion"), device=CPU, runs=tmp_path)
    with run_lock(trainer.folder), pytest.raises(ConfigError, match="another process is training"):
        trainer.train()
    trainer.train()


def test_state_of_another_version_is_one_clear_error(config_of, tmp_path):
    trainer = Trainer(config_of("latent_unet"), device=CPU, runs=tmp_path)
    torch.save({"step": 3}, trainer.state_file)
    with pytest.raises(CheckpointError, match=r"cannot be resumed from .*without config, ema"):
        trainer.train()


@pytest.mark.parametrize("wrong", [{"length": 5}, {"whole": True}])
def test_training_data_must_not_end(config_of, tmp_path, wrong):
    plain = config_to_dict(config_of("diffusion"))["data"]
    data = plain | {"train": plain["train"] | wrong}
    with pytest.raises(ConfigError, match=r"data\.train: a set of \d samples ends"):
        Trainer(config_of("diffusion", data=data), device=CPU, runs=tmp_path).train()


def test_validation_needs_an_end_and_a_truth(config_of, tmp_path):
    plain = config_to_dict(config_of("diffusion"))["data"]
    endless = plain["train"] | {"name": "val"}
    blind = {"name": "val", "type": "PairedFolder", "lq": str(tmp_path / "photos"), "gt": None}
    for part, message in ((endless, "the stream is endless"), (blind, "no ground truth")):
        config = config_of("diffusion", data=plain | {"validation": [part]})
        with pytest.raises(ConfigError, match=rf"data\.validation, set 'val': .*{message}"):
            Trainer(config, device=CPU, runs=tmp_path / message).train()


def test_damaged_state_is_one_clear_error(config_of, tmp_path):
    trainer = Trainer(config_of("latent_unet"), device=CPU, runs=tmp_path)
    trainer.state_file.write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be resumed from"):
        trainer.train()


def test_both_stages_end_in_a_restorer(config_of, tmp_path):
    unet = Trainer(config_of("latent_unet"), device=CPU, runs=tmp_path)
    unet.train()
    network = {
        "type": "ConditionalNAFNet",
        "img_channel": 4,
        "width": 8,
        "enc_blk_nums": [1],
        "dec_blk_nums": [1],
        "wiring": "latent",
    }
    data = {
        "train": {
            "type": "SyntheticPairs",
            "degradation": {"type": "Haze"},
            "folders": [str(tmp_path / "photos")],
            "cache": str(tmp_path / "cache"),
            "patch": 16,
        },
        "batch_size": 2,
        "workers": 0,
        "cached_latents": 4,
    }
    config = config_of(
        "diffusion", latent_unet={"checkpoint": str(unet.model_file)}, network=network, data=data
    )
    trainer = Trainer(config, device=CPU, runs=tmp_path)
    trainer.train()
    assert (trainer.folder / "latents.safetensors").is_file()
    stored, first = (read_checkpoint(t.model_file).tensors for t in (trainer, unet))
    assert all(torch.equal(stored[name], first[name]) for name in first)
    restorer = load_restorer(trainer.model_file, device="cpu", precision="fp32")
    lq = torch.rand(1, 3, 19, 26, generator=torch.Generator().manual_seed(0))
    assert restorer.restore(lq).shape == lq.shape
    # The U-Net is trained anew: the network knows another latent and must not be mixed with it.
    save_checkpoint(
        unet.model_file,
        unet.stage.model_config,
        {name: tensor * 1.01 for name, tensor in first.items()},
        {},
    )
    with pytest.raises(CheckpointError, match=r"state\.pt: belongs to another run"):
        Trainer(config, device=CPU, runs=tmp_path).train()


def test_refreshed_latents_are_those_of_their_round(config_of, tmp_path):
    """Interrupted in any round or not, every step sees the same pairs, and rounds share none."""
    unet = Trainer(config_of("latent_unet"), device=CPU, runs=tmp_path)
    unet.train()
    plain = config_to_dict(config_of("diffusion"))
    network = plain["network"] | {"img_channel": 4, "wiring": "latent"}
    data = plain["data"] | {"cached_latents": 4, "refresh_latents": 2}
    latent = {"checkpoint": str(unet.model_file)}

    def trainer(folder):
        config = config_of("diffusion", latent_unet=latent, network=network, data=data)
        return Trainer(config, device=CPU, runs=tmp_path / folder)

    def seen(run, steps):
        stream, pairs = run._batches(), []
        for _ in range(steps):
            pairs.append(next(stream)["mu"])
            run.step += 1
        return pairs

    straight = seen(trainer("straight"), 6)
    halting = []
    for step in range(6):  # a fresh process each time, as after an interruption
        run = trainer("halting")
        run.step = step
        halting += seen(run, 1)
    assert all(torch.equal(*pair) for pair in zip(straight, halting, strict=True))
    rounds = [torch.cat(straight[first : first + 2]) for first in (0, 2, 4)]
    distances = [torch.cdist(a.flatten(1), b.flatten(1)).min() for a, b in pairwise(rounds)]
    assert min(distances) > 1e-3


def test_loss_falls(config_of, tmp_path):
    train = TRAIN | {"steps": 150, "optimizer": {"type": "Lion", "lr": 3e-3}, "validate_every": 150}
    data = config_of("latent_unet")
    trainer = Trainer(config_of("latent_unet", train=train), device=CPU, runs=tmp_path)
    totals = []
    trainer.train(lambda step, total, terms: totals.append(terms["total"]))
    assert data.train.steps == 6
    assert sum(totals[-10:]) < 0.4 * sum(totals[:10])
    assert trainer.scores["whole/reconstruction/psnr"] > 15


@pytest.mark.parametrize("stage", ["latent_unet", "diffusion"])
def test_accumulation_changes_memory_only(config_of, tmp_path, stage):
    runs = []
    for parts in (1, 2):
        config = config_of(stage, train=TRAIN | {"accumulate": parts, "steps": 3})
        trainer, totals = Trainer(config, device=CPU, runs=tmp_path / str(parts)), []
        trainer.train(lambda step, total, terms, totals=totals: totals.append(terms["total"]))
        runs.append(totals)
    # The U-Net's regulariser, of weight 0.001, is a statistic of the part it is computed on.
    assert runs[1] == pytest.approx(runs[0], rel=1e-5 if stage == "diffusion" else 1e-3)


def test_training_can_start_from_a_trained_model(config_of, tmp_path):
    first = Trainer(config_of("diffusion"), device=CPU, runs=tmp_path)
    first.train()
    other = config_of("diffusion", name="finetuned", init=str(first.model_file))
    second = Trainer(other, device=CPU, runs=tmp_path)
    assert same(second.weights(), first.weights())
    unet = config_of("latent_unet", name="wrong", init=str(first.model_file))
    with pytest.raises(CheckpointError, match=r"init: .* does not contain the latent_unet"):
        Trainer(unet, device=CPU, runs=tmp_path)


def test_batch_that_cannot_be_cut_is_refused_before_any_file(config_of, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.batch_size: 2 samples"):
        Trainer(config_of("diffusion"), device=CPU, runs=tmp_path / "runs", world=World(0, 3))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow  # the compiler takes half a minute
def test_compiled_training_gives_the_same_loss(config_of, tmp_path):
    runs = []
    for compiled in (False, True):
        config = config_of("diffusion", train=TRAIN | {"compile": compiled, "steps": 2})
        trainer, totals = Trainer(config, device=CPU, runs=tmp_path / str(compiled)), []
        trainer.train(lambda step, total, terms, totals=totals: totals.append(terms["total"]))
        runs.append(totals)
        assert load_restorer(trainer.model_file).info.task == "dehaze"
    assert runs[1] == pytest.approx(runs[0], rel=1e-4)
