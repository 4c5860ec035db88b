"""A loss that is not finite and too little memory end the run in one line; the checkpoint stays."""

import contextlib
from dataclasses import replace

import pytest
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.devices.processes import World
from refusion.errors import RefusionError
from refusion.failures import describe_failure
from refusion.training import Trainer
from refusion.training.stages import build_stage
from refusion.training.updates import Updates

CPU = torch.device("cpu")
CUDA_TEXT = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.06 GiB is free."
)


@pytest.fixture
def trainer_of(tmp_path):
    photos = make_photos(tmp_path / "photos")

    def make(**train):
        config = run_config("diffusion", photos, tmp_path / "cache", train=TRAIN | train)
        trainer = Trainer(config, device=CPU, runs=tmp_path)
        trainer.read_every = config.train.log_every  # as on a GPU
        return trainer

    return make


def poison_after(trainer, last):
    def progress(step, total, terms):
        if step == last:
            with torch.no_grad():
                trainer.parameters[0].fill_(float("nan"))

    return progress


@pytest.mark.parametrize(
    ("train", "noticed", "kept"),
    [
        ({"log_every": 4, "checkpoint_every": 2}, 3, 2),  # when the loss of the fourth is read
        ({"log_every": 6, "checkpoint_every": 2}, 4, 2),  # before the file is replaced
        ({"log_every": 6, "checkpoint_every": 6, "validate_every": 3}, 3, None),
    ],
)
def test_the_first_bad_step_is_named_where_the_loss_is_not_read_at_each_step(
    trainer_of, train, noticed, kept
):
    trainer = trainer_of(**train)
    with pytest.raises(RefusionError, match=r"loss is nan at step 2; .*optimizer\.lr"):
        trainer.train(poison_after(trainer, 2))
    assert trainer.step == noticed
    if kept is None:
        assert not trainer.model_file.exists() and not trainer.state_file.exists()
        return
    stored = read_checkpoint(trainer.model_file)
    assert stored.info["step"] == kept
    assert all(tensor.isfinite().all() for tensor in stored.tensors.values())
    assert torch.load(trainer.state_file, weights_only=False)["step"] == kept
    again = trainer_of(**train)
    again.train()
    assert again.step == 6


def test_a_gradient_that_is_not_finite_counts_too(trainer_of):
    trainer = trainer_of(log_every=6, grad_clip=None)
    handle = trainer.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(RefusionError, match=r"at step 0;"):
        trainer.train()
    handle.remove()


def test_values_are_given_at_the_steps_where_they_are_read(trainer_of):
    given = {}
    trainer_of(log_every=3, steps=7, validate_every=7).train(
        lambda step, total, terms: given.setdefault(step, terms)
    )
    assert given[1] == given[2] == {}
    assert given[3] == given[4] == given[5] != given[6] != given[7]  # the last step is read, too
    assert {"total", "grad_norm"} <= given[3].keys() == given[7].keys()


@pytest.mark.parametrize("stage", ["latent_unet", "diffusion"])
def test_a_step_reads_no_value_from_the_device(tmp_path, monkeypatch, stage):
    """Reading one waits for a GPU; tensors of the device `meta` have none, so reading raises."""
    meta = torch.device("meta")
    monkeypatch.setattr(torch, "autocast", lambda *args, **how: contextlib.nullcontext())
    config = run_config(stage, tmp_path, tmp_path, train=TRAIN | {"accumulate": 2})
    updates = Updates(config, build_stage(config, meta), world=World(), device=meta)
    batch = {name: torch.empty(1, 3, 16, 16, device=meta) for name in ("lq", "gt")}
    terms = updates.update(3, [batch, batch], 0.0)
    assert {"total", "grad_norm"} <= terms.keys()
    for tensor in (*terms.values(), updates.failed):
        assert tensor.device == meta
    with pytest.raises(RuntimeError):  # the device does what the test needs
        updates.failure()


@pytest.mark.parametrize(("parts", "checkpointed"), [(1, False), (2, False), (2, True)])
def test_too_little_memory_in_a_step_is_one_line(trainer_of, parts, checkpointed):
    trainer = trainer_of(accumulate=parts, checkpoint_blocks=checkpointed)
    loss, calls = trainer.updates.losses.stage_loss, []

    def full(*args):
        calls.append(1)
        if len(calls) > 3 * parts:
            raise torch.OutOfMemoryError(CUDA_TEXT)
        return loss(*args)

    trainer.updates.losses.stage_loss = full
    with pytest.raises(RefusionError) as caught:
        trainer.train()
    text = describe_failure(caught.value).text
    assert "not enough memory at step 3 for data.batch_size 2" in text and "\n" not in text
    assert "raise train.accumulate" in text and "lower data.batch_size" in text
    assert ("set train.checkpoint_blocks=true" in text) != checkpointed
    assert read_checkpoint(trainer.model_file).info["step"] == 2


def test_changes_that_matter_are_logged_when_a_run_is_continued(trainer_of, caplog):
    trainer_of(steps=1).train()
    trainer_of(steps=1, log_every=7, checkpoint_blocks=True).train()
    assert "other settings" not in caplog.text
    trainer_of(steps=1, ema_every=2).train()
    assert "other settings: train.ema_every 1 -> 2" in caplog.text


def test_another_runtime_error_is_not_called_memory(trainer_of):
    trainer = trainer_of()

    def broken(*args):
        raise RuntimeError("shapes do not fit")

    trainer.updates.losses.stage_loss = broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trainer.train()


def test_one_process_needs_no_communication():
    world = World()
    assert world.any(True) and not world.any(False)
    assert world.largest([1.5, -2]) == [1.5, -2]


def test_the_best_weights_stay_beside_the_last(trainer_of, monkeypatch):
    psnr = iter([20.0, 22.0, 21.0])
    name = "whole/restored/psnr"
    monkeypatch.setattr(
        "refusion.training.trainer.validate_in_time",
        lambda *args, **how: {"whole/input/psnr": 50.0, name: next(psnr), "z/restored/psnr": 99.0},
    )
    trainer = trainer_of(validate_every=2)
    trainer.train()
    best, last = (read_checkpoint(each).info for each in (trainer.best_file, trainer.model_file))
    assert (best["step"], best["scores"][name]) == (4, 22.0)
    assert (last["step"], last["scores"][name]) == (6, 21.0)
    more = trainer_of(validate_every=2, steps=8)  # resumed: 21.5 is not the best of the run
    psnr = iter([21.5])
    more.train()
    assert read_checkpoint(more.best_file).info["step"] == 4
    other = trainer_of(validate_every=2, steps=10)  # the scores of other photos cannot be compared
    (whole,) = other.config.data.validation
    sections = (replace(whole, settings=whole.settings | {"max_side": 24}),)
    other.config = replace(other.config, data=replace(other.config.data, validation=sections))
    psnr = iter([19.0])
    other.train()
    assert read_checkpoint(other.best_file).info["step"] == 10
