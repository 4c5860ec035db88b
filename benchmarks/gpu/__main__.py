"""Everything that a GPU is needed for, in some minutes: tests, measurements, then trainings.

    python -m benchmarks.gpu --minutes 9 --photos DIR --train options/a.yml options/b.yml --out OUT

Each part is a program with a time limit, so a crash or a hang of one part does not touch the
others. The folder OUT gets at most 8 files of at most 16 MiB each. With `--device cpu --minutes 1`
the command is its own rehearsal on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

import yaml

from benchmarks.gpu import report
from benchmarks.gpu.parts import Outcome, run_parts
from benchmarks.gpu.plan import (
    LEAST_TRAINING,
    PARTS,
    SHARES,
    Setting,
    limit,
    measuring_part,
    run_names,
    training_options,
    training_parts,
    with_folders,
)
from benchmarks.gpu.rows import LEFT_OUT, failures, markdown, read_rows
from refusion.config import read_yaml
from refusion.errors import RefusionError, one_line

LEAST_PART = 5.0  # seconds; with less, a measurement is left out


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", allow_abbrev=False)
    add = parser.add_argument
    add("--minutes", type=float, default=9.0, help="time for everything (default 9)")
    add("--photos", type=Path, metavar="DIR", help="clean photos, for all option files")
    add("--train", nargs="*", type=Path, default=[], metavar="FILE", help="option files")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for what comes back")
    add("--device", choices=("cpu", "cuda"), default="cuda")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all, in this order")
    add("--work", type=Path, metavar="DIR", help="folder for runs and logs (default: temporary)")
    return parser


def check(options: argparse.Namespace) -> str | None:
    """What is wrong with the options; None if nothing is."""
    if not 0.1 <= options.minutes <= 24 * 60:
        return f"--minutes: expected 0.1 to 1440, got {options.minutes:g}"
    if options.photos is not None and not options.photos.is_dir():
        return f"--photos: no folder '{options.photos}'"
    for path in options.train:
        if not path.is_file():
            return f"--train: no file '{path}'"
    return None


def say(text: str) -> None:
    """Show a line at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run_measurements(setting: Setting, parts: Sequence[str], begun: float) -> list[Outcome]:
    """Run the parts before the trainings, one after the other."""
    outcomes = []
    for name in (name for name in SHARES if name in parts):
        seconds = limit(setting, name, time.monotonic() - begun)
        if name in ("networks", "data") and not setting.options:
            continue
        if seconds < LEAST_PART:
            outcomes.append(Outcome(name, LEFT_OUT))
            continue
        say(f"{name}: up to {seconds:.0f} s")
        (outcome,) = run_parts([measuring_part(setting, name, seconds)], setting.work / "logs")
        rows = [] if outcome.log is None else read_rows(outcome.log)
        if outcome.passed and failures(rows):
            outcome = replace(outcome, state=f"{failures(rows)} measurements failed")
        elif outcome.passed and rows and all(row.get("error") == LEFT_OUT for row in rows):
            outcome = replace(outcome, state=LEFT_OUT)  # nothing was measured
        outcomes.append(outcome)
        say(f"{name}: {outcomes[-1].state}, {outcomes[-1].seconds:.0f} s")
    return outcomes


def run_trainings(setting: Setting, begun: float) -> list[Outcome]:
    """Run all trainings side by side, in the time that is left."""
    files, outcomes = {}, {}
    for name, path in zip(run_names(setting.options), setting.options, strict=True):
        target = setting.work / "options" / f"{name}.yml"
        try:
            content = training_options(setting, read_yaml(path), name)
        except (RefusionError, KeyError, TypeError, ValueError, AttributeError) as error:
            outcomes[name] = Outcome(name, f"not an option file ({one_line(error, 100)})")
            continue
        target.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        files[name] = target
    seconds = limit(setting, "train", time.monotonic() - begun)
    if seconds < LEAST_TRAINING:
        outcomes |= {name: Outcome(name, LEFT_OUT) for name in files}
    else:
        say(f"{len(files)} trainings: up to {seconds:.0f} s")
        found = run_parts(training_parts(setting, files, seconds), setting.work / "logs")
        outcomes |= {outcome.name: outcome for outcome in found}
    return [outcomes[name] for name in run_names(setting.options)]


def finish(
    setting: Setting, outcomes: list[Outcome], trained: list[Outcome], begun: float
) -> list[report.Training]:
    """Write everything that comes back."""
    trainings: list[report.Training] = []
    for outcome in trained:
        used = sum(len(each.files) for each in trainings)
        places = report.MOST_FILES - report.OWN_FILES - used
        trainings.append(report.collect(outcome, setting.work, setting.out, places))
    left_out = report.pack_logs(report.run_files(setting.work), setting.out / report.LOGS)
    head = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "device": device_name(setting.device),
        "cores": setting.cores,
        "minutes": f"{(time.monotonic() - begun) / 60:.2f} of {setting.seconds / 60:.2f}",
        "photos": "none" if setting.photos is None else setting.photos.name,
    }
    report.write(setting.out, head, [*outcomes, *trained], trainings, left_out)
    return trainings


def device_name(device: str) -> str:
    """Name of the GPU and version of PyTorch."""
    import torch  # here, because the command itself starts without waiting for PyTorch

    name = torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else "CPU"
    return f"{name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda or 'none'}"


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that `run_parts` ends its programs


def main(argv: list[str] | None = None) -> int:
    """Run all parts; returns 0 if all of them passed, 1 if not, 2 for wrong options."""
    begun = time.monotonic()
    options = build_parser().parse_args(argv)
    fault = check(options)
    if fault is not None:
        say(f"error: {fault}")
        return 2
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        setting = with_folders(
            Setting(
                60 * options.minutes,
                options.device,
                len(os.sched_getaffinity(0)),
                options.photos and options.photos.absolute(),
                tuple(path.absolute() for path in options.train),
                options.work or Path(temporary),
                options.out,
            )
        )
        outcomes = run_measurements(setting, options.parts, begun)
        trains = "train" in options.parts and bool(setting.options)
        trained = run_trainings(setting, begun) if trains else []
        trainings = finish(setting, outcomes, trained, begun)
    rows = [
        {"part": each.name, "state": each.state, "s": round(each.seconds)}
        for each in [*outcomes, *trained]
    ]
    sys.stdout.write(markdown(rows) + "\n")
    for each in trainings:
        row = report.training_row(each)
        sys.stdout.write(f"{each.name}: {row['steps']} steps; {row['scores']} {row['note']}\n")
    spent = time.monotonic() - begun
    sys.stdout.write(f"{spent:.0f} of {setting.seconds:.0f} s; see {setting.out / report.TABLE}\n")
    return 0 if all(each.passed for each in [*outcomes, *trained]) else 1


if __name__ == "__main__":
    sys.exit(main())
