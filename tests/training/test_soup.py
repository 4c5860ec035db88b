"""Averages of the best snapshots of a run: which are chosen, their weights, what cannot be done."""

import pytest
import torch
import yaml
from training_cases import TRAIN, make_photos, run_config

from refusion import cli
from refusion.checkpoint import Checkpoint, read_checkpoint
from refusion.errors import ConfigError
from refusion.restorers import load_restorer
from refusion.training import Trainer
from refusion.training.snapshots import snapshots_of
from refusion.training.soup import best_snapshots, greedy_soup, rank_shares

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run that keeps three of its four validated weights."""
    root = tmp_path_factory.mktemp("soup")
    photos = make_photos(root / "photos")
    train = TRAIN | {"steps": 8, "validate_every": 2, "keep_best": 3}
    config = run_config("diffusion", photos, root / "cache", train=train)
    trainer = Trainer(config, device=CPU, runs=root / "runs")
    trainer.train()
    return trainer.folder


def average(run, out, *options):
    return cli.main(["average", str(run), "-o", str(out), "--full", "--device", "cpu", *options])


def tensors_of(path):
    return read_checkpoint(path).tensors


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ((), [1 / 2, 1 / 3, 1 / 6]),
        (("--best", "2"), [2 / 3, 1 / 3]),
        (("--soup", "uniform"), [1 / 3] * 3),
        (("--best", "1", "--soup", "uniform"), [1]),
    ],
)
def test_the_best_snapshots_have_the_largest_weights(run, tmp_path, capsys, options, shares):
    out = tmp_path / "soup.safetensors"
    assert average(run, out, *options) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    ranked = snapshots_of(run)[: len(shares)]
    assert lines == [
        f"step {one.step}: psnr {one.score:.4f}, share {share:.3f}"
        for one, share in zip(ranked, shares, strict=True)
    ]
    assert last == str(out)
    parts = [tensors_of(one.path) for one in ranked]
    for name, tensor in tensors_of(out).items():
        expected = sum(share * part[name] for share, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-7)
    info = read_checkpoint(out).info
    steps = [part["step"] for part in info["average_of"]]
    assert steps == sorted(one.step for one in ranked) and info["step"] == steps[-1]


def test_the_files_are_listed_by_step_with_the_weight_of_their_rank(run, tmp_path):
    files = sorted((run / "snapshots").iterdir())
    (tmp_path / "snapshots").mkdir()
    for file, step, score in zip(files, (1, 2, 3), ("20.0000", "22.0000", "21.0000"), strict=True):
        name = f"step_{step:08d}_psnr_{score}.safetensors"
        (tmp_path / "snapshots" / name).write_bytes(file.read_bytes())
    assert average(tmp_path, tmp_path / "soup.safetensors") == 0
    info = read_checkpoint(tmp_path / "soup.safetensors").info
    assert [part["share"] for part in info["average_of"]] == [1 / 6, 1 / 2, 1 / 3]
    assert info["average_of"][1]["file"] == "snapshots/step_00000002_psnr_22.0000.safetensors"


def test_the_greedy_soup_is_at_least_as_good_as_the_best_snapshot(run, tmp_path, capsys):
    out = tmp_path / "soup.safetensors"
    assert average(run, out, "--soup", "greedy") == 0
    first, *others, summary, _ = capsys.readouterr().out.splitlines()
    best = snapshots_of(run)[0]
    said = f"step {best.step}: psnr of the average with it {best.score:.4f}, added"
    assert first == said  # measured as during the training
    assert len(others) == 2
    info = read_checkpoint(out).info
    count = len(info["average_of"])
    assert info["psnr"] >= best.score - 5e-5
    assert summary == f"{count} of 3 snapshots: psnr {info['psnr']:.4f}"
    assert load_restorer(out, device="cpu").restore(torch.rand(1, 3, 20, 24)).isfinite().all()


@pytest.fixture
def around(tiny_checkpoint):
    """Function that makes a checkpoint at a distance from the best weights in a direction."""
    best = read_checkpoint(tiny_checkpoint("pixel"))

    def make(distance, seed=0):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: tensor.float() + distance * torch.randn(tensor.shape, generator=generator)
            for name, tensor in best.tensors.items()
        }
        return Checkpoint(best.model, tensors, {}, best.path)

    def score(tensors):
        return -sum(float((tensors[name] - best.tensors[name]).abs().sum()) for name in tensors)

    return make, score


def test_the_greedy_soup_leaves_out_what_does_not_help(around):
    make, score = around
    snapshots = [make(0.1), make(3.0, seed=1), make(-0.11), make(0.1, seed=2)]
    soup = greedy_soup(snapshots, score)
    assert soup.chosen == [0, 2]  # the errors of these two cancel out
    assert soup.score == soup.tried[2] == max(soup.tried)
    assert soup.tried[0] == score(snapshots[0].tensors)
    assert greedy_soup(snapshots[:1], score).chosen == [0]


def test_a_snapshot_that_changes_nothing_is_added(around):
    make, score = around
    assert greedy_soup([make(0.1), make(0.1)], score).chosen == [0, 1]


def test_the_weights_fall_with_the_rank():
    assert rank_shares(1) == [1.0]
    assert rank_shares(3) == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert sum(rank_shares(100)) == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 4, -1])
def test_the_number_of_snapshots_is_limited(run, tmp_path, capsys, count):
    assert average(run, tmp_path / "x.safetensors", "--best", str(count)) == 2
    error = capsys.readouterr().err
    assert f"--best {count}: {run} keeps 3; expected 1 to 3" in error and error.count("\n") == 1
    assert [one.step for one in best_snapshots(run, 3)] == [one.step for one in snapshots_of(run)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{run}"], "is a folder; give one run folder alone, or only weights files"),
        (["{file}", "{run}"], "is a folder; give one run folder alone, or only weights files"),
        (["{run}", "--shares", "1"], "--shares: belongs to weights files; a run folder takes"),
        (["{file}", "--best", "1"], "--best: belongs to a run folder, got"),
        (["{file}", "--soup", "greedy"], "--soup: belongs to a run folder, got"),
        (["{empty}"], "keeps no snapshots; train with train.keep_best=3 or more"),
        (["{run}", "--output", "{file}/x"], "is a file, expected a folder; choose another name"),
        (["{file}", "--output", "{file}/a/x"], "is a file, expected a folder; choose another name"),
        (["{run}", "--output", "{empty}"], "is a folder, expected a file; choose another name"),
    ],
)
def test_what_does_not_fit_together_is_one_line(run, tmp_path, capsys, arguments, message):
    names = {"run": run, "file": run / "best.safetensors", "empty": tmp_path / "empty"}
    names["empty"].mkdir()
    out = tmp_path / "x.safetensors"
    given = [argument.format(**names) for argument in arguments]
    given += [] if "--output" in given else ["--output", str(out)]
    assert cli.main(["average", *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_snapshots_of_two_metrics_are_not_ranked_together(run, tmp_path):
    (tmp_path / "snapshots").mkdir()
    for name in ("step_00000001_psnr_9.0000.safetensors", "step_00000002_ssim_0.9000.safetensors"):
        (tmp_path / "snapshots" / name).write_text("")
    with pytest.raises(ConfigError, match="scores of psnr and of ssim; remove those of one metric"):
        best_snapshots(tmp_path)


def test_without_photos_there_is_no_greedy_soup(run, tmp_path, capsys):
    raw = yaml.safe_load((run / "config.yml").read_text())
    raw["data"]["validation"] = []
    for file in (run / "snapshots").iterdir():
        (tmp_path / "snapshots").mkdir(exist_ok=True)
        (tmp_path / "snapshots" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.yml").write_text(yaml.safe_dump(raw))
    assert average(tmp_path, tmp_path / "x.safetensors", "--soup", "greedy") == 2
    assert (
        "--soup greedy needs photos to measure on; add data.validation" in capsys.readouterr().err
    )
