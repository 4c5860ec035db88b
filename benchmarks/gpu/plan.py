"""Division of the time and of the cores, and the command lines of the parts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Part

ROOT = Path(__file__).parents[2]
# Largest shares of the whole time; what a part leaves over is used for the trainings.
SHARES = {"tests": 0.13, "inference": 0.1, "networks": 0.13, "data": 0.04}
LEAST = 8.0  # seconds of such a part, if the whole time is short
PARTS = (*SHARES, "train")
FINISH = 0.025  # share of the time for the report
LEAST_FINISH = 6.0  # seconds
LEAST_TRAINING = 12.0  # seconds; with less, a training is left out
# Seconds of a training that its own clock does not count, and the share that it may take longer.
AROUND, OVERRUN = {"cpu": 2.0, "cuda": 4.0}, 0.04
GRACE = 4.0  # seconds for a training to save its weights


@dataclass(frozen=True)
class Setting:
    """What the command was given.

    Attributes:
        seconds: the time for everything.
        device: 'cpu' or 'cuda'.
        cores: number of processor cores.
        photos: folder of clean photos; None for none.
        options: option files of the trainings.
        work: folder for runs, caches and logs, outside of `out`.
        out: folder of what comes back.
    """

    seconds: float
    device: str
    cores: int
    photos: Path | None
    options: tuple[Path, ...]
    work: Path
    out: Path

    @property
    def finish(self) -> float:
        """Seconds for the report at the end."""
        return max(LEAST_FINISH, FINISH * self.seconds)


def limit(setting: Setting, name: str, used: float) -> float:
    """Seconds that a part may take.

    Args:
        setting: the whole time.
        name: key of `SHARES`, or 'train' for all trainings together.
        used: seconds since the start of the command.
    """
    left = setting.seconds - setting.finish - used
    if name == "train":
        return max(0.0, left)
    return max(0.0, min(left, max(LEAST, SHARES[name] * setting.seconds)))


def training_minutes(setting: Setting, seconds: float) -> float:
    """Value of `train.minutes` with which a training ends within some seconds."""
    spare = AROUND[setting.device] + GRACE
    return max(0.0, seconds - spare) / (1 + OVERRUN) / 60


def measuring_part(setting: Setting, name: str, seconds: float) -> Part:
    """One of the parts before the trainings.

    Args:
        setting: what the command was given.
        name: key of `SHARES`.
        seconds: time after which the part is killed.
    """
    # A rehearsal on few cores is to end, and not to be fast.
    is_cpu = setting.device == "cpu"
    environment = {"OMP_NUM_THREADS": "1"} if is_cpu else {"REFUSION_NEEDS_GPU": "1"}
    if name == "tests":
        return Part(name, _tests(setting), seconds, environment, grace=1.0)
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", "--device", setting.device]
    # The measurements end themselves in time, so that the last row is complete.
    command += ["--seconds", f"{seconds - max(3.0, 0.1 * seconds):.1f}"]
    if setting.photos is not None:
        command += ["--photos", str(setting.photos)]
    if name == "inference":
        command += ["--work", str(setting.work)]
    else:
        command += ["--options", *map(str, setting.options)]
    return Part(name, tuple(command), seconds, environment, grace=1.0)


def _tests(setting: Setting) -> tuple[str, ...]:
    """Command of the tests; on a CPU a few of their rehearsals, because all take a minute."""
    marks, files = "gpu and not slow", gpu_tests(ROOT / "tests")
    if setting.device == "cpu":
        marks, files = "not gpu and not slow", [str(ROOT / "tests/gpu/test_number_formats.py")]
        files += ["-k", "auto or overflow"]
    options = ("-m", marks, "-q", "--no-header", "-p", "no:cacheprovider", "--tb=short")
    return (sys.executable, "-m", "pytest", *options, "--durations=5", *files)


def gpu_tests(folder: Path) -> list[str]:
    """The folder of the tests for a GPU, and other test files that contain such tests.

    All other files are left out, because importing them takes seconds and may need packages that
    the machine does not have.
    """
    own = folder / "gpu"
    others = (file for file in sorted(folder.rglob("test_*.py")) if own not in file.parents)
    found = [file for file in others if "mark.gpu" in file.read_text(encoding="utf-8")]
    return [str(path) for path in (own, *found)]


def training_parts(setting: Setting, files: Mapping[str, Path], seconds: float) -> list[Part]:
    """The trainings, which run side by side.

    Args:
        setting: what the command was given.
        files: option files with all changes of `training_options`, by the name of their run.
        seconds: time for all of them.
    """
    minutes = training_minutes(setting, seconds)
    threads = max(1, setting.cores // max(1, len(files)))
    # The networks run on the GPU, so its cores make the data.
    threads = threads if setting.device == "cpu" else 1
    environment = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    return [
        Part(
            name,
            (
                *(sys.executable, str(ROOT / "train.py"), "-opt", str(file)),
                *("--set", f"train.minutes={minutes:.4f}", "--runs", str(setting.work / "runs")),
                *("--export", str(setting.work / "exports" / f"{name}.safetensors")),
                *("--device", setting.device, "--quiet"),
            ),
            seconds,
            environment,
            GRACE,
        )
        for name, file in files.items()
    ]


def run_names(options: Sequence[Path]) -> list[str]:
    """A different name for each training, from its option file.

    >>> run_names([Path("a/dehaze.yml"), Path("toy.yml"), Path("b/dehaze.yml")])
    ['dehaze', 'toy', 'dehaze_2']
    """
    names: list[str] = []
    for file in options:
        stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in file.stem)
        number, name = 1, stem
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return names


def training_options(setting: Setting, raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The content of an option file, changed for a training that ends by the clock.

    The photos replace the folders of every synthetic set. Intervals in steps are left out, because
    the number of steps is not known. Each training gets its share of the cores.

    Args:
        setting: what the command was given.
        raw: content of the option file.
        name: name of the run.
    """
    data, train = dict(raw["data"]), dict(raw["train"])
    data["train"] = _with_photos(setting, data["train"])
    data["validation"] = [_with_photos(setting, each) for each in data.get("validation") or []]
    share = setting.cores // len(setting.options)
    data["workers"] = max(1, share - 1)
    train |= {"steps": None, "validate_every": None, "checkpoint_every": None}
    schedule = dict(train.get("lr_schedule") or {})
    if schedule.get("type") == "multistep":  # its milestones count steps
        schedule = {"type": "cosine", "warmup_steps": schedule.get("warmup_steps", 0)}
    if schedule:
        train["lr_schedule"] = schedule
    return {**raw, "name": name, "data": data, "train": train}


def _with_photos(setting: Setting, dataset: Mapping[str, Any]) -> dict[str, Any]:
    if setting.photos is None or "folders" not in dataset:
        return dict(dataset)
    cache = str(setting.work / "cache")
    return {**dataset, "folders": [str(setting.photos)], "cache": cache}


def with_folders(setting: Setting) -> Setting:
    """Create the folders of a setting; their paths become absolute."""
    work, out = setting.work.absolute(), setting.out.absolute()
    for folder in (out, work / "runs", work / "exports", work / "logs", work / "options"):
        folder.mkdir(parents=True, exist_ok=True)
    return replace(setting, work=work, out=out)
