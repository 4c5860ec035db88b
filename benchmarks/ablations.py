"""The paper's four training studies in miniature, on any data (Refusion, CVPRW 2023, section 4).

    python -m benchmarks.ablations --study noise -opt options/dehaze_small.yml

trains one model per variant, one after the other, and writes a table (stdout) and a chart of PSNR
against steps (`ablation_<study>.png`). Interrupted, the same command continues; a run that is
done is not repeated. A study trains each of its variants from the same first weights, on the same
samples in the same order, for the same number of steps, and measures the averaged weights on the
same photos; all that the YAML says and the study does not vary is held fixed. What differs:

noise      max_sigma 10, 30, 50, 70. A model that answers in one step hardly sees the noise, so
           the study trains the published process (prediction noise, objective maximum_likelihood,
           times drawn evenly) and walks it in 20 steps, a fifth of the published number.
steps      T = 20, 50, 100, 200 times of the published process, each walked in all its T steps, so
           that training and sampling change together as in the paper.
patch      a quarter, a half and all of the YAML's patch. Equal steps, as in the paper: the large
           patch sees 16 times the pixels of the small one and takes longer. A patch of half the
           side shows half the side of the scene, at the same scale. The YAML's own process.
optimizer  Adam with a rate halved three times, AdamW and Lion with half a cosine, at the published
           rates (1e-4, 1e-4, 3e-5) times the factor by which the YAML's own rate differs from the
           published one. The YAML's own process.

`--set` changes a setting for all variants, the process of `noise` and `steps` among them.
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
    """One run of a study: its name in table and chart, and what it sets."""

    label: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Runs that differ in one thing.

    Attributes:
        name: word of `--study`.
        title: heading of table and chart.
        variants: the runs.
        base: what all runs set, before `--set`.
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
    """Number of times T of the process, all of them walked."""
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
        raise ConfigError("data.train.patch: the study of patches needs one to start from")
    # Only `SyntheticPairs` scales the scene with the patch: left alone, its small patches would
    # show as much of it as large ones, at less detail.
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
    """Optimizer and course of its rate."""
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
"""Word of `--study` -> the study for a YAML."""


class StudyRun(Trainer):
    """A run that keeps the scores of each validation beside its checkpoints.

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
        """Train what is left; returns the measurements by step."""
        steps, name = self.config.train.steps, self.config.name
        if steps not in self.points:
            with tqdm(total=steps, unit="step", desc=name) as bar:

                def show(step: int, total: int, terms: dict[str, float]) -> None:
                    self.recent.append(terms["total"])
                    bar.update(step - bar.n)

                self.train(show)
        return self.points

    def save(self) -> None:
        """Note the scores, then write the state: what is resumed from has always been noted."""
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
    """Link the latents of an earlier run on the same data into a run's folder.

    Looked for in `runs` and in the folder above, where `refusion train` puts its own. The trainer
    checks what it finds and encodes anew if it does not fit.
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
    """What cached latents depend on, as a run folder's `config.yml` tells it."""
    data = plain["data"]
    known = (data["train"], data.get("cached_latents"), plain.get("latent_unet"))
    return [*known, plain["train"]["seed"]]


def build_runs(
    study_name: str, opt: str, changes: Sequence[str], steps: int, photos: int = 8
) -> tuple[Study, dict[str, RunConfig]]:
    """The study for a YAML, and the config of each of its runs by label.

    Raises:
        ConfigError: a setting is wrong, or the YAML is not of stage diffusion with validation.
    """
    every = max(2, -(-steps // POINTS))  # a step tells its loss after it
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
    parser.add_argument("--study", required=True, choices=STUDIES, help="what is varied")
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="what is trained")
    parser.add_argument("--steps", type=int, default=2000, help="of each run (default 2000)")
    parser.add_argument("--photos", type=int, default=8, help="measured per set (default 8)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="changes all variants"
    )
    parser.add_argument("--out", default="docs/images", metavar="DIR", help="folder of the chart")
    parser.add_argument("--runs", default="runs/ablations", metavar="DIR", help="of the runs")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="or auto")
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
