"""The four training studies of Refusion (CVPRW 2023, section 4) at small size, on any data.

    python -m benchmarks.ablations --study noise -opt options/dehaze_small.yml

trains one model per variant, one after the other. It writes a table (stdout) and a chart of PSNR
against steps (`ablation_<study>.png`). After an interruption the same command continues; complete
runs are not repeated. All variants of a study start from the same first weights. They use the same
samples in the same order, the same number of steps, and all other settings of the YAML file. The
averaged weights are measured on the same photos. The studies vary:

noise      max_sigma 10, 30, 50, 70. The noise has little effect on a model that restores in one
           step. So the study trains the published process (prediction noise, objective
           maximum_likelihood, uniform times) and samples in 20 steps, a fifth of the published
           number.
steps      T = 20, 50, 100, 200 times of the published process. Each variant samples in all its T
           steps, so training and sampling change together, as in the paper.
patch      a quarter, a half and all of the patch size in the YAML file. The number of steps is the
           same, as in the paper: the large patch has 16 times the pixels of the small patch and
           takes longer. A patch of half the side shows half the side of the scene, at the same
           scale. The process is that of the YAML file.
optimizer  Adam with a rate that is halved three times, AdamW and Lion with half a cosine. The rates
           are the published ones (1e-4, 1e-4, 3e-5) times a factor: the rate in the YAML file
           divided by its published rate. The process is that of the YAML file.

`--set` changes a setting for all variants, including the process of `noise` and `steps`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from benchmarks.charts import Line, line_chart
from refusion.config import RunConfig, config_to_dict, load_config
from refusion.devices.precision import choose_device
from refusion.errors import ConfigError, RefusionError
from refusion.files import atomic_write
from refusion.training import Trainer
from refusion.training.paths import check_paths

POINTS = 6  # measurements per run
RATES = {"Lion": 3e-5, "AdamW": 1e-4, "Adam": 1e-4}  # published
PUBLISHED_PROCESS = (
    "prediction=noise",
    "objective={type: maximum_likelihood, loss: l1}",
    "train.time_bias=0.0",
    "sampling.sampler=posterior",
)


@dataclass(frozen=True)
class Variant:
    """One run of a study: its name in table and chart, and its settings."""

    label: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Runs that differ in one setting.

    Attributes:
        name: value of `--study`.
        title: heading of table and chart.
        variants: the runs.
        base: settings of all runs, applied before `--set`.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    base: tuple[str, ...] = ()


def noise_study(config: RunConfig) -> Study:
    """Noise level of the process, in 8-bit levels."""
    variants = [Variant(f"max_sigma {s}", (f"sde.max_sigma={s}",)) for s in (10, 30, 50, 70)]
    return Study("noise", "Noise level", tuple(variants), (*PUBLISHED_PROCESS, "sampling.steps=20"))


def steps_study(config: RunConfig) -> Study:
    """Number of times T of the process; each variant samples in T steps."""
    variants = [
        Variant(f"T = {T}", (f"sde.T={T}", f"sampling.steps={T}")) for T in (20, 50, 100, 200)
    ]
    return Study("steps", "Number of steps", tuple(variants), PUBLISHED_PROCESS)


def patch_study(config: RunConfig) -> Study:
    """Side of the training patches in pixels.

    Raises:
        ConfigError: the YAML sets no patch.
    """
    train = config.data.train
    patch = train.settings.get("patch")
    if patch is None:
        raise ConfigError(
            "data.train.patch: the study patch needs a patch size in the options file"
        )
    # `SyntheticPairs` scales the scene to the patch. Without a correction its small patches would
    # show as much of the scene as large patches, with less detail.
    scales = train.settings.get("scale_range", (0.25, 1.0))
    is_scaled = train.type == "SyntheticPairs" and scales is not None
    variants = []
    for part in (4, 2, 1):
        overrides = [f"data.train.patch={patch // part}"]
        if is_scaled:
            overrides.append(f"data.train.scale_range={[scale / part for scale in scales]}")
        variants.append(Variant(f"patch {patch // part}", tuple(overrides)))
    return Study("patch", "Patch size", tuple(variants))


def optimizer_study(config: RunConfig) -> Study:
    """Optimizer and schedule of its learning rate."""
    own, steps = config.train.optimizer, config.train.steps
    factor = own.lr / RATES[own.type]
    halvings = [max(1, steps * part // 7) for part in (2, 4, 6)]  # of 700 000: 200, 400, 600
    courses = {
        "multi-step": ("type=multistep", f"milestones={sorted(set(halvings))}", "gamma=0.5"),
        "cosine": ("type=cosine", "milestones=[]"),
    }

    def variant(name: str, course: str) -> Variant:
        rate = f"{RATES[name] * factor:.3g}"
        optimizer = (f"train.optimizer.type={name}", f"train.optimizer.lr={rate}")
        schedule = (f"train.lr_schedule.{text}" for text in courses[course])
        return Variant(f"{name}, {course}, {rate}", (*optimizer, *schedule))

    chosen = (("Adam", "multi-step"), ("AdamW", "cosine"), ("Lion", "cosine"))
    return Study("optimizer", "Optimizer", tuple(variant(*pair) for pair in chosen))


STUDIES: dict[str, Callable[[RunConfig], Study]] = {
    "noise": noise_study,
    "steps": steps_study,
    "patch": patch_study,
    "optimizer": optimizer_study,
}
"""Value of `--study` -> function that makes the study for a run."""


class StudyRun(Trainer):
    """A run that stores the scores of each validation next to its checkpoints.

    Args:
        config: the run; it validates and saves at the same steps.
        device: where to train.
        runs: folder of run folders.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """

    def __init__(self, config: RunConfig, *, device: torch.device, runs: Path) -> None:
        share_latents(config, runs)
        super().__init__(config, device=device, runs=runs)
        self.curve_file = self.folder / "curve.json"
        self.settings = {"config": config_to_dict(config)}
        self.points: dict[int, dict[str, float]] = {}
        self.recent: list[float] = []
        if self.curve_file.is_file():
            self._read_curve()

    def finish(self) -> dict[int, dict[str, float]]:
        """Train the remaining steps; returns the measurements by step."""
        steps, name = self.config.train.steps, self.config.name
        if steps not in self.points:
            with tqdm(total=steps, unit="step", desc=name) as bar:

                def show(step: int, total: int, terms: dict[str, float]) -> None:
                    self.recent.append(terms["total"])
                    bar.update(step - bar.n)

                self.train(show)
        return self.points

    def save(self) -> None:
        """Store the scores, then the state, so that every resumed state has stored scores."""
        if self.step not in self.points:
            loss, minutes = statistics.fmean(self.recent), self.trained_s / 60
            point = {"loss": loss, "minutes": minutes} | self.scores
            self.points[self.step] = point
            plain = self.settings | {"points": list(self.points.items())}
            with atomic_write(self.curve_file) as aside:
                aside.write_text(json.dumps(plain), encoding="utf-8")
        self.recent.clear()
        super().save()

    def _read_curve(self) -> None:
        plain = json.loads(self.curve_file.read_text(encoding="utf-8"))
        if {key: plain[key] for key in self.settings} != self.settings:
            raise ConfigError(
                f"{self.folder}: holds a run with other settings; remove it or give another --runs"
            )
        self.points = {int(step): point for step, point in plain["points"]}


def share_latents(config: RunConfig, runs: Path) -> None:
    """Link the latents of an earlier run with the same data into the folder of a run.

    Searches `runs` and the folder above, where `refusion train` puts its runs. The trainer checks
    the latents and encodes again if they do not fit.
    """
    target = runs / config.name / "latents.safetensors"
    own = _origin(config_to_dict(config))
    for path in sorted([*runs.glob("*/config.yml"), *runs.parent.glob("*/config.yml")]):
        source = path.with_name(target.name)
        if target.exists() or not source.is_file():
            continue
        if _origin(yaml.safe_load(path.read_text(encoding="utf-8"))) == own:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # another file system, or one without links
                shutil.copy(source, target)


def _origin(plain: dict[str, Any]) -> list[Any]:
    """The settings in a run folder's `config.yml` that the cached latents depend on."""
    data = plain["data"]
    known = (data["train"], data.get("cached_latents"), plain.get("latent_unet"))
    return [*known, plain["train"]["seed"]]


def build_runs(
    study_name: str, opt: str, changes: Sequence[str], steps: int, photos: int = 8
) -> tuple[Study, dict[str, RunConfig]]:
    """The study for an options file, and the config of each of its runs by label.

    Raises:
        ConfigError: a setting is wrong, or the file is not of stage diffusion with validation.
    """
    every = max(2, -(-steps // POINTS))  # the loss of a step is reported after the step
    sets = range(len(load_config(opt, changes).data.validation))
    budget = (
        f"train.steps={steps}",
        f"train.checkpoint_every={every}",
        f"train.validate_every={every}",
        *(f"data.validation.{number}.length={photos}" for number in sets),
    )
    config = load_config(opt, [*changes, *budget])
    if config.stage != "diffusion" or not config.data.validation:
        raise ConfigError(f"{opt}: the studies need stage diffusion and a data.validation")
    study, configs = STUDIES[study_name](config), {}
    for variant in study.variants:
        slug = re.sub(r"[^A-Za-z0-9.-]+", "_", variant.label)
        name = f"name={config.name}-{study.name}-{slug}"
        texts = [*study.base, *changes, *variant.overrides, *budget, name]
        configs[variant.label] = load_config(opt, texts)
    return study, configs


def markdown_table(study: Study, curves: dict[str, dict[int, dict[str, float]]]) -> str:
    """Last measurement of each run: loss, metrics of every set, minutes of training."""
    ends = {label: points[max(points)] for label, points in curves.items()}
    first = next(iter(ends.values()))
    columns = [key.split("/") for key in first if "/restored/" in key]
    titles = [f"{metric.upper()} {name}" for name, _, metric in columns]
    head = [study.title, "loss", *titles, "minutes"]
    given = [f"{first[f'{name}/input/{metric}']:.4g}" for name, _, metric in columns]
    rows = [head, ["---"] * len(head), ["input", "", *given, ""]]
    for label, end in ends.items():
        scores = [f"{end['/'.join(key)]:.4g}" for key in columns]
        rows.append([label, f"{end['loss']:.4g}", *scores, f"{end['minutes']:.1f}"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def draw_curves(study: Study, curves: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """PSNR of the first validation set against steps."""
    end = next(iter(next(iter(curves.values())).values()))
    key = next(key for key in end if key.endswith("/restored/psnr"))
    lines = [
        Line(label, tuple((step, point[key]) for step, point in sorted(points.items())))
        for label, points in curves.items()
    ]
    title = f"{study.title}: PSNR on '{key.split('/')[0]}' while training"
    line_chart(path, lines, title=title, x_label="optimizer steps", y_label="PSNR / dB")


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations")
    parser.add_argument("--study", required=True, choices=STUDIES, help="the setting that varies")
    parser.add_argument(
        "-opt", "--opt", required=True, metavar="FILE", help="options file of the runs"
    )
    parser.add_argument("--steps", type=int, default=2000, help="steps of each run (default 2000)")
    parser.add_argument("--photos", type=int, default=8, help="photos measured per set (default 8)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of all variants",
    )
    parser.add_argument("--out", default="docs/images", metavar="DIR", help="folder of the chart")
    parser.add_argument(
        "--runs", default="runs/ablations", metavar="DIR", help="folder of the runs"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="device")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run a study."""
    options = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    study, configs = build_runs(
        options.study, options.opt, options.set, options.steps, options.photos
    )
    curves, device = {}, choose_device(options.device)
    for label, config in configs.items():
        check_paths(config)
        run = StudyRun(config, device=device, runs=Path(options.runs))
        curves[label] = run.finish()
    sys.stdout.write(markdown_table(study, curves))
    draw_curves(study, curves, Path(options.out) / f"ablation_{study.name}.png")


if __name__ == "__main__":
    try:
        main()
    except RefusionError as failure:
        sys.exit(f"error: {failure}")
