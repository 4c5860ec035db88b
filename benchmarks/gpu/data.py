"""Training samples per second that the cores of this machine make, for some option files.

python -m benchmarks.gpu.data --options options/dehaze_small.yml --photos DIR --seconds 20 makes
samples with one process per core and counts them. The first 40 % of the time, in which most photos
of a small folder are decoded and cached, do not count; photos of a large folder are decoded later,
too, as in the first epoch of a training.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from itertools import count
from pathlib import Path

import torch

from benchmarks.gpu.rows import LEFT_OUT, Deadline, emit, row_of_errors
from refusion.config import find_table, read_yaml
from refusion.config.loading import config_from_dict
from refusion.training.workers import load_batches

TABLE = "training samples"
BATCH, LEAST = 4, 1.0  # samples; seconds of a measurement
WARM = 0.4  # share of the time before the counting


def samples_per_second(dataset: object, workers: int, seconds: float) -> float:
    """Samples per second of a data set.

    Args:
        dataset: a map from an index to a sample.
        workers: number of processes.
        seconds: how long samples are made, the uncounted first ones included.
    """
    batches = (range(BATCH * n, BATCH * n + BATCH) for n in count())
    loaded = load_batches(dataset, batches, title="samples", workers=workers, seed=0)
    begun, counted, first = time.monotonic(), 0, None
    with contextlib.closing(loaded):
        for _ in loaded:
            now = time.monotonic()
            if first is None:
                first = now if now - begun >= WARM * seconds else None
                continue
            counted += BATCH
            if now - first >= (1 - WARM) * seconds:  # batches that were ready do not count much
                break
    return counted / (now - first)


def main(argv: list[str] | None = None) -> None:
    """Measure each option file in an equal part of the time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.data")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="not used")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--photos", type=Path, help="folder that replaces those of the files")
    parser.add_argument("--options", nargs="+", type=Path, required=True)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    deadline, cores = Deadline(options.seconds), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as cache:
        for number, file in enumerate(options.options):
            row = {"options": file.stem, "cores": cores}
            if deadline.left() < LEAST:
                emit(TABLE, **row, error=LEFT_OUT)
                continue
            with row_of_errors(TABLE, **row):
                raw = read_yaml(file)
                if options.photos and "folders" in raw["data"]["train"]:
                    raw["data"]["train"] |= {"folders": [str(options.photos)], "cache": cache}
                config = config_from_dict(raw, str(file))
                kind, settings = config.data.train.type, config.data.train.settings
                dataset = find_table("datasets")[kind](**settings, seed=0)
                seconds = deadline.left() / (len(options.options) - number)
                rate = samples_per_second(dataset, cores, seconds)
                row["patch"] = settings.get("patch", "")
                emit(TABLE, **row, **{"samples per s": rate, "per s and core": rate / cores})


if __name__ == "__main__":
    main()
