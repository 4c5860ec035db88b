"""Signals to the whole group of processes reach the one that trains, also while it waits."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.training import Trainer
from refusion.training.interrupts import ignore_interrupts


def _worker(ready):
    ignore_interrupts(0)
    ready.set()
    time.sleep(1)
    os._exit(7)


def test_a_loader_outlives_both_signals():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_worker, args=(ready,))
    worker.start()
    assert ready.wait(10)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    worker.join(10)
    assert worker.exitcode == 7


class NeverReady:
    """Samples of which the seventh is never ready."""

    def __getitem__(self, index):
        if index == 6:
            time.sleep(1000)
        image = torch.full((3, 16, 16), 0.5)
        return {"lq": image, "gt": image}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_the_wait_for_a_sample(tmp_path, monkeypatch, workers):
    monkeypatch.setattr("refusion.training.loading.training_set", lambda config: NeverReady())
    photos = {"type": "SyntheticPairs", "folders": [str(make_photos(tmp_path / "photos"))]}
    photos |= {"cache": str(tmp_path / "cache"), "degradation": {"type": "Haze"}}
    data = {"train": photos, "validation": [], "batch_size": 1, "workers": workers}
    train = TRAIN | {"steps": 8, "checkpoint_every": 100}
    config = run_config("diffusion", tmp_path, tmp_path / "cache", data=data, train=train)
    trainer = Trainer(config, device=torch.device("cpu"), runs=tmp_path)

    def signal_later(step, total, terms):
        if step == 6:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    begun = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        trainer.train(signal_later)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 20
    assert read_checkpoint(trainer.model_file).info["step"] == 6
    assert multiprocessing.active_children() == []
