"""The best weights of a run: which are kept, also when it is resumed or the disk is full."""

import pytest
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.errors import CheckpointError, ConfigError
from refusion.training import Trainer
from refusion.training.budget import Budget
from refusion.training.snapshots import (
    BestWeights,
    best_metric,
    keep_snapshot,
    remove_snapshots,
    snapshots_of,
)

CPU = torch.device("cpu")
PSNR = "whole/restored/psnr"


@pytest.fixture
def config_of(tmp_path):
    photos = make_photos(tmp_path / "photos")

    def make(**changes):
        train = TRAIN | {"steps": 12, "validate_every": 2, "keep_best": 3} | changes
        return run_config("diffusion", photos, tmp_path / "cache", train=train)

    return make


@pytest.fixture
def scored(monkeypatch):
    """Function that sets the PSNR of each following validation, by step."""

    def use(trainer, psnr, ssim=None):
        def measured(*args, **how):
            step = trainer.step
            scores = {"whole/input/psnr": 50.0, PSNR: psnr[step], "z/restored/psnr": 99.0}
            return scores | ({"whole/restored/ssim": ssim[step]} if ssim else {})

        monkeypatch.setattr("refusion.training.trainer.validate_in_time", measured)
        return trainer

    return use


def trainer_of(config, tmp_path, name="runs"):
    return Trainer(config, device=CPU, runs=tmp_path / name)


def steps(trainer):
    return [one.step for one in snapshots_of(trainer.folder)]


SCORES = {2: 20.0, 4: 23.0, 6: 21.0, 8: 22.0, 10: 19.0, 12: 22.0}


def test_the_best_snapshots_stay_with_their_scores(config_of, tmp_path, scored):
    trainer = scored(trainer_of(config_of(), tmp_path), SCORES)
    trainer.train()
    found = snapshots_of(trainer.folder)
    assert [(one.step, one.score) for one in found] == [(4, 23.0), (12, 22.0), (8, 22.0)]
    assert found[0].path.name == "step_00000004_psnr_23.0000.safetensors"
    assert len(list((trainer.folder / "snapshots").iterdir())) == 3
    first, best = (read_checkpoint(path) for path in (found[0].path, trainer.best_file))
    assert first.info["step"] == best.info["step"] == 4
    assert all(torch.equal(first.tensors[name], best.tensors[name]) for name in best.tensors)


def test_one_best_file_needs_no_folder(config_of, tmp_path, scored):
    trainer = scored(trainer_of(config_of(keep_best=1), tmp_path), SCORES)
    trainer.train()
    assert not (trainer.folder / "snapshots").exists()
    assert read_checkpoint(trainer.best_file).info["step"] == 4


def test_another_metric_can_decide(config_of, tmp_path, scored):
    ssim = {2: 0.2, 4: 0.1, 6: 0.3, 8: 0.6, 10: 0.5, 12: 0.4}
    trainer = scored(trainer_of(config_of(best_metric="ssim"), tmp_path), SCORES, ssim)
    trainer.train()
    assert steps(trainer) == [8, 10, 12]
    assert snapshots_of(trainer.folder)[0].metric == "ssim"
    assert read_checkpoint(trainer.best_file).info["step"] == 8


@pytest.mark.parametrize("killed", [6, 8, 10])
def test_a_resumed_run_keeps_the_ranking(config_of, tmp_path, scored, killed):
    """The process dies after a validation and before it saves, so it validates once more."""
    whole = scored(trainer_of(config_of(), tmp_path, "whole"), SCORES)
    whole.train()

    class KilledError(Exception):
        pass

    config = config_of(checkpoint_every=4)
    first = scored(trainer_of(config, tmp_path), SCORES)
    note = first.best.note

    def dying(step, *rest):
        note(step, *rest)
        if step == killed:
            raise KilledError

    first.best.note = dying
    with pytest.raises(KilledError):
        first.train()
    again = scored(trainer_of(config, tmp_path), SCORES)
    again.train()
    assert steps(again) == steps(whole)
    for one, other in zip(snapshots_of(again.folder), snapshots_of(whole.folder), strict=True):
        assert one.path.name == other.path.name
        ours, theirs = (read_checkpoint(each.path).tensors for each in (one, other))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_new_run_in_the_folder_of_another_one_begins_anew(config_of, tmp_path, scored):
    first = scored(trainer_of(config_of(steps=4), tmp_path), SCORES)
    first.train()
    assert steps(first) == [4, 2]
    first.state_file.unlink()
    second = scored(trainer_of(config_of(steps=2), tmp_path), {2: 5.0})
    second.train()
    assert [(one.step, one.score) for one in snapshots_of(second.folder)] == [(2, 5.0)]


def test_fewer_and_more_snapshots_when_a_run_is_continued(config_of, tmp_path, scored):
    scored(trainer_of(config_of(steps=8), tmp_path), SCORES).train()
    fewer = scored(trainer_of(config_of(steps=10, keep_best=2), tmp_path), SCORES)
    fewer.train()
    assert steps(fewer) == [4, 8]
    more = scored(trainer_of(config_of(keep_best=5), tmp_path), SCORES)
    more.train()
    assert steps(more) == [4, 12, 8]


def test_a_run_continued_with_one_best_file_has_no_snapshots(config_of, tmp_path, scored):
    trainer = scored(trainer_of(config_of(steps=8), tmp_path), SCORES)
    trainer.train()
    assert len(steps(trainer)) == 3
    one = scored(trainer_of(config_of(steps=10, keep_best=1), tmp_path), SCORES)
    one.train()
    assert not (one.folder / "snapshots").exists()
    assert read_checkpoint(one.best_file).info["step"] == 4


def test_without_snapshots_the_files_of_others_stay(tmp_path):
    keep(tmp_path, 1, 1.0)
    (tmp_path / "snapshots" / "notes.txt").write_text("mine")
    remove_snapshots(tmp_path)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["notes.txt"]
    remove_snapshots(tmp_path / "no run")


def keep(folder, step, score, **changes):
    written = []

    def export(path):
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(step))
        written.append(path)

    how = {"count": 2, "is_comparable": True, "export": export} | changes
    keep_snapshot(folder, step, how.pop("metric", "psnr"), score, **how)
    return written


def test_only_own_files_are_removed(tmp_path):
    folder = tmp_path / "snapshots"
    folder.mkdir()
    others = ["notes.txt", "step_1.safetensors", "step_00000001_lpips_0.1000.safetensors"]
    for name in others:
        (folder / name).write_text("mine")
    (folder / "step_00000001_psnr_9.0000.safetensors").symlink_to(folder / "notes.txt")
    (folder / "step_00000002_psnr_9.0000.safetensors").mkdir()
    for step, score in ((3, 1.0), (4, 2.0), (5, 3.0)):
        keep(tmp_path, step, score)
    assert [(one.step, one.score) for one in snapshots_of(tmp_path)] == [(5, 3.0), (4, 2.0)]
    assert len(list(folder.iterdir())) == 5 + 2
    assert not keep(tmp_path, 6, 1.5)  # nothing is written for weights that are not kept


def test_a_snapshot_that_cannot_be_compared_begins_anew(tmp_path):
    keep(tmp_path, 1, 30.0)
    keep(tmp_path, 2, 1.0, is_comparable=False)
    assert [one.step for one in snapshots_of(tmp_path)] == [2]
    keep(tmp_path, 3, 0.5, metric="ssim")
    assert [one.step for one in snapshots_of(tmp_path)] == [3]


def test_snapshots_of_steps_that_are_repeated_are_replaced(tmp_path):
    for step, score in ((2, 1.0), (4, 2.0), (6, 3.0), (4, 2.0)):
        keep(tmp_path, step, score, count=3)
    assert [one.step for one in snapshots_of(tmp_path)] == [4, 2]
    keep(tmp_path, 4, 2.5, count=3)
    assert [(one.step, one.score) for one in snapshots_of(tmp_path)] == [(4, 2.5), (2, 1.0)]


def test_the_old_snapshots_stay_until_the_new_one_is_written(tmp_path):
    keep(tmp_path, 1, 1.0)
    keep(tmp_path, 2, 2.0)

    def full(path):
        raise CheckpointError(f"{path}: cannot be written (No space left on device)")

    with pytest.raises(CheckpointError, match=r"step_00000003_psnr_3\.0000.*No space"):
        keep(tmp_path, 3, 3.0, export=full)
    assert [one.step for one in snapshots_of(tmp_path)] == [2, 1]


def test_the_initial_weights_and_scores_that_are_no_number_are_no_snapshot(config_of, tmp_path):
    best, written = BestWeights(tmp_path), []
    budget = Budget(12, None)
    for step, score in ((0, 9.0), (2, float("nan"))):
        best.note(step, {PSNR: score}, config_of(), budget, written.append)
    assert [path.name for path in written] == ["best.safetensors"]
    assert best.record["score"] == 9.0
    best.note(4, {PSNR: 10.0}, config_of(), budget, None)  # another process writes
    assert len(written) == 1 and best.record["score"] == 10.0


def test_the_score_is_that_of_the_last_result_of_the_first_set():
    scores = {"a/input/psnr": 1.0, "a/input/ssim": 0.1, "a/restored/psnr": 2.0, "b/input/psnr": 3.0}
    assert best_metric(scores) == 2.0
    assert best_metric(scores, "ssim") == 0.1
    assert best_metric({}) is None


@pytest.mark.parametrize("kind", ["link", "file"])
def test_the_folder_is_the_run_s_own(config_of, tmp_path, kind):
    place = tmp_path / "runs" / "tiny_diffusion" / "snapshots"
    place.parent.mkdir(parents=True)
    if kind == "link":
        place.symlink_to(tmp_path)
    else:
        place.write_text("mine")
    with pytest.raises(ConfigError, match=r"snapshots: is a (link|file)"):
        trainer_of(config_of(), tmp_path)
