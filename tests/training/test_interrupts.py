"""Signals to the whole group of processes reach the one that trains."""

import multiprocessing
import os
import signal
import time

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
