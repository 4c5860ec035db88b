"""Every experiment file trains: built at toy width, one finite step, and one photo restored."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from options_cases import FILES, ON_SD, OPTIONS, toy, write_photos

from refusion.checkpoint import read_checkpoint
from refusion.config import RunConfig, find_table
from refusion.config.sections import LatentCheckpoint
from refusion.evaluation.scoring import evaluate
from refusion.restorers import load_restorer
from refusion.training import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("options")
    write_photos(root)
    return root


def train(config: RunConfig, folder: Path) -> tuple[Trainer, list[dict[str, float]]]:
    terms: list[dict[str, float]] = []
    trainer = Trainer(config, device=CPU, runs=folder / "runs")
    trainer.train(lambda step, total, seen: terms.append(seen))
    return trainer, terms


def train_what_it_builds_on(config: RunConfig, folder: Path) -> None:
    """The first stage or the teacher, by their files' own names."""
    paths = []
    if isinstance(config.latent_unet, LatentCheckpoint):
        paths.append(config.latent_unet.checkpoint)
    if config.distillation is not None:
        paths.append(config.distillation.teacher)
    for path in paths:
        first = toy(OPTIONS / f"{Path(path).parent.name}.yml", folder)
        train_what_it_builds_on(first, folder)
        train(first, folder)


@pytest.mark.parametrize("path", [p for p in FILES if p not in ON_SD], ids=lambda p: p.stem)
def test_trains_a_step_and_restores_a_photo(path: Path, folder: Path):
    config = toy(path, folder)
    train_what_it_builds_on(config, folder)
    trainer, terms = train(config, folder)
    assert len(terms) <= 1  # none where a test before has trained it as its first stage
    assert all(math.isfinite(value) for seen in terms for value in seen.values())
    assert read_checkpoint(trainer.model_file).info["step"] == 1

    part = config.data.validation[0]
    dataset = find_table("datasets")[part.type](**part.settings, seed=0)
    restorer = load_restorer(trainer.model_file, device="cpu", precision="fp32")
    scores = evaluate(restorer, dataset, limit=1).mean
    assert not math.isnan(scores.result["psnr"])  # infinite where 64 pixels show no blur at all
    assert restorer.info.task == config.task
    assert not any(math.isnan(score) for score in trainer.scores.values())
    # What was measured in training is what the restorer does.
    if config.stage != "latent_unet":
        row = evaluate(restorer, dataset).mean
        assert trainer.scores[f"{part.name}/restored/psnr"] == pytest.approx(
            row.result["psnr"], abs=0.02
        )
