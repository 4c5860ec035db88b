"""Whole batches from the command line: what is skipped, logged, interrupted, drawn and shared."""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_cases import make

from refusion import cli
from refusion.batch.plan import plan_jobs
from refusion.batch.progress import BatchBar, job_cost
from refusion.images.io import read_image

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command with the model of a kind, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv, kind="latent"):
        own = ["--weights", tiny_checkpoint(kind), "--precision", "fp32"]
        return cli.restore_main([str(word) for word in (*argv, *own)])

    return run


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*.*")}


def photos_of(log):
    return json.loads(Path(log).read_text("utf-8"))["photos"]


def test_an_interrupted_batch_is_finished_by_the_same_command(restore, capsys, monkeypatch):
    for seed, name in enumerate("abc"):
        make(f"in/{name}.png", seed=seed)
    argv = ["--input", "in", "--skip-existing", "--log", "log.json"]
    update = BatchBar.update

    def interrupted(self, number, job, stage, done, total):
        update(self, number, job, stage, done, total)
        if (number, stage) == (1, "decode"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BatchBar, "update", interrupted)
        assert restore(*argv) == 130
    out, err = capsys.readouterr()
    assert out.startswith("1 photo restored in ") and out.rstrip().endswith(": results/a.png")
    assert err == (
        "refusion: interrupted after 1 of 3; the same command with --skip-existing "
        "restores the others\n"
    )
    assert list(files("results")) == ["a.png"]
    assert [photo["input"] for photo in photos_of("log.json")] == ["in/a.png"]
    first = Path("results/a.png").stat().st_mtime_ns
    assert restore(*argv) == 0
    restored, skipped = capsys.readouterr().out.splitlines()
    assert restored.startswith("2 photos restored in ")
    assert skipped == "1 photo skipped, the results exist"
    assert Path("results/a.png").stat().st_mtime_ns == first
    assert [photo["skipped"] for photo in photos_of("log.json")] == [True, False, False]
    assert restore(*argv, "--output", "whole", "--quiet") == 0
    assert files("whole") == files("results")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_whole_files(tiny_checkpoint, tmp_path, number):
    """The signal itself, wherever it hits; a scheduler's does the same."""
    for seed in range(60):
        make(tmp_path / f"in/{seed:02}.png", 150, 150, seed=seed)
    command = [sys.executable, ROOT / "tiled_infer.py", "--weights", tiny_checkpoint("pixel")]
    command += ["--input", "in", "--output", "out", "--log", "out/log.json", "--precision", "fp32"]
    # In the background of a shell script SIGINT is ignored, and a child would inherit that.
    default = functools.partial(signal.signal, number, signal.SIG_DFL)
    pipes = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": default}
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    written = sorted(tmp_path.glob("out/*.png"))
    assert error.startswith("refusion: interrupted after ")
    assert 0 < len(written) < 60
    assert all(read_image(path).image.shape == (3, 150, 150) for path in written)
    # Between the writing of a photo and that of the log there may be one.
    assert len(written) - len(photos_of(tmp_path / "out/log.json")) in (0, 1)
    assert len(list((tmp_path / "out").iterdir())) == len(written) + 1  # and the log, nothing else


def test_log_says_what_was_done_and_how(restore, tiny_checkpoint):
    make("in/a.png", 20, 14)
    Path("in/b.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert restore("--input", "in", "--seed", 3, "--log", "logs/run.json", "--quiet") == 1
    document = json.loads(Path("logs/run.json").read_text("utf-8"))
    model = document["model"]
    assert model["sha256"] == hashlib.sha256(tiny_checkpoint().read_bytes()).hexdigest()
    assert (model["task"], model["weights"]) == ("dehaze", "latent.safetensors")
    options = document["options"]
    assert (options["seed"], options["steps"], options["sampler"]) == (3, 3, "posterior")
    assert (document["device"], document["precision"], document["processes"]) == ("cpu", "fp32", 1)
    good, bad = document["photos"]
    assert (good["output"], good["width"], good["height"]) == ("results/a.png", 14, 20)
    assert document["summary"]["median_seconds"] == good["seconds"]
    assert set(good["seconds"]) == {"read", "restore", "write"}
    assert bad["error"].startswith("in/b.jpg: ")
    counts = [document["summary"][key] for key in ("restored", "skipped", "failed")]
    assert counts == [1, 0, 1]


@pytest.mark.parametrize("is_repaired", [False, True])
def test_a_log_that_cannot_be_written_does_not_stop_the_batch(
    restore, capsys, monkeypatch, is_repaired
):
    for seed, name in enumerate("abcd"):
        make(f"in/{name}.png", seed=seed)
    update = BatchBar.update

    def with_folder(self, number, job, stage, done, total):
        update(self, number, job, stage, done, total)
        if (number, stage) == (1, "read"):
            Path("log.json").unlink()
            Path("log.json").mkdir()
        if (number, stage) == (3, "read") and is_repaired:
            Path("log.json").rmdir()

    monkeypatch.setattr(BatchBar, "update", with_folder)
    assert restore("--input", "in", "--log", "log.json") == (0 if is_repaired else 1)
    out, err = capsys.readouterr()
    assert out.startswith("4 photos restored in ")
    assert len(files("results")) == 4
    assert err == (
        "refusion: warning: log: 'log.json' cannot be written (is a folder, expected a file); the "
        "photos are restored without it\n"
    )
    assert Path("log.json").is_dir() or len(photos_of("log.json")) == 4


def test_samples_give_a_mean_and_a_map(restore, capsys):
    make("a.png")
    argv = ["--input", "a.png", "--sampler", "ode", "--steps", "10"]
    for seed in (7, 8):
        assert restore(*argv, "--seed", seed, "--output", f"{seed}.png", kind="pixel") == 0
    both = ["--samples", 2, "--uncertainty", "map.png", "--output", "mean.png"]
    assert restore(*argv, "--seed", 7, *both, kind="pixel") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "uncertainty: map.png"
    one, two, mean = (read_image(f"{name}.png").image for name in ("7", "8", "mean"))
    assert float((mean - (one + two) / 2).abs().max()) < 1.5 / 255
    # Of two draws the standard deviation is their distance over the root of 2.
    spread = ((one - two) ** 2 / 2).mean(dim=0).sqrt().clamp(max=0.1)
    measured = read_image("map.png").image[0] * 0.1
    assert float(spread.max()) > 5 / 255
    assert float((measured - spread).abs().max()) < 1.5 / 255


@pytest.mark.parametrize(
    ("kind", "argv", "words"),
    [
        ("latent", ["--steps", "1"], "so the measured uncertainty is too small; use 4 steps"),
        ("unet", [], "because this model does not depend on the seed"),
    ],
)
def test_draws_that_cannot_differ_are_warned_of_once(restore, capsys, kind, argv, words):
    make("in/a.png")
    make("in/b.png")
    assert restore("--input", "in", "--samples", 2, *argv, kind=kind) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "--samples" in line]
    assert len(lines) == 1
    assert lines[0].startswith("refusion: warning: ") and words in lines[0]
    assert restore("--input", "in", *argv, kind=kind) == 0
    assert "--samples" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--uncertainty", "m.png"], "needs 2 samples or more"),
        (["--uncertainty", "m.tif", "--samples", "2"], "a map is a 16-bit PNG"),
        (["--max-memory", "4 apples"], "--max-memory: expected a size such as 800M or 4G, got"),
        (["--log", "log.txt"], "expected a name that ends in .json"),
        (["--log", "."], "expected a name that ends in .json"),
    ],
)
def test_wrong_usage_ends_before_any_photo(restore, capsys, argv, message):
    make("a.png")
    assert restore("--input", "a.png", *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusion: error: ") and message in line
    assert not Path("results").exists()


def test_a_photo_that_cannot_fit_the_memory_allowed_is_named(restore, capsys):
    make("a.png")
    assert restore("--input", "a.png", "--max-memory", "1M") == 1
    assert capsys.readouterr().err.startswith("refusion: failed: a.png: max memory: ")
    assert restore("--input", "a.png", "--max-memory", "100G", "--quiet") == 0


@pytest.mark.parametrize("strength", ["-2.1", "2.5", "half", "nan"])
def test_strength_is_a_number(restore, capsys, strength):
    with pytest.raises(SystemExit) as exit_info:
        restore("--input", "a.png", f"--strength={strength}")
    assert exit_info.value.code == 2
    assert "argument --strength: expected" in capsys.readouterr().err


def test_strength_from_nothing_to_all(restore):
    make("a.png", 40, 30)
    change = {}
    for strength in ("0", "0.3", "0.6", "1"):
        assert restore("--input", "a.png", "--output", "b.png", "--strength", strength) == 0
        change[strength] = float((read_image("b.png").image - read_image("a.png").image).norm())
    assert change["0"] == 0
    assert restore("--input", "a.png", "--output", "c.png") == 0
    assert files(".")["b.png"] == files(".")["c.png"]


class Shown:
    """Stands in for tqdm, which off a terminal counts nothing."""

    disable = False

    def __init__(self, *, total, **_):
        self.total, self.n, self.words = total, 0, []

    def update(self, n):
        self.n += n

    def set_description_str(self, text, refresh):
        self.words.append(text)

    def set_postfix_str(self, text, refresh):
        self.words.append(text)

    def close(self):
        pass


def test_the_bar_moves_by_pixels(tmp_path, monkeypatch):
    make(tmp_path / "in/a.png", 100, 100)
    make(tmp_path / "in/b.png", 1000, 1000)
    (tmp_path / "in/c.png").write_bytes(b"")
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out")
    weights = [job_cost(job) for job in jobs]
    assert weights[1] - weights[0] == 1_000_000 - 10_000
    assert weights[0] - weights[2] == 10_000
    assert job_cost(jobs[1], 999_999) == weights[2]  # it is refused
    monkeypatch.setattr("refusion.batch.progress.tqdm", Shown)
    seen = []
    with BatchBar([10, 0, 70, 20], quiet=False) as bar:
        for number in range(4):
            for state in (("read", 0, 1), ("sample", 1, 2), ("write", 1, 1)):
                bar.update(number, jobs[0], *state)
                seen.append(bar._bar.n)
    assert seen == sorted(seen)
    assert [round(n, 6) for n in seen[2::3]] == [10, 10, 80, 100]
    assert bar._bar.total == 100
    assert bar._bar.words[-2:] == ["4/4 a.png", "write 1/1"]


def test_two_processes_share_a_folder(restore, tiny_checkpoint, tmp_path):
    for seed in range(5):
        make(f"in/{seed}.png", 30 + 40 * seed, 30, seed=seed)
    Path("in/broken.png").write_bytes(b"\x89PNG")
    make("out/0.png")  # there already
    argv = ["--input", "in", "--skip-existing", "--log-file", "log.json"]
    kept = Path("out/0.png").read_bytes()
    command = [sys.executable, *TWO, ROOT / "tiled_infer.py", *argv, "--output", "out"]
    command += ["--weights", tiny_checkpoint(), "--precision", "fp32"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr[-2000:]  # one photo is broken
    restored, skipped = done.stdout.splitlines()
    assert restored.startswith("4 photos restored in ")
    assert skipped.startswith("1 photo skipped")
    assert done.stderr.count("refusion: failed: in/broken.png: ") == 1
    assert Path("out/0.png").read_bytes() == kept
    document = json.loads(Path("log.json").read_text("utf-8"))
    assert document["processes"] == 2
    assert [Path(photo["input"]).stem for photo in document["photos"]] == [*"01234", "broken"]
    assert not list(Path().glob("*.part*"))
    # What each did is what one process does.
    assert restore("--input", "in", "--output", "one", "--quiet") == 1
    alone, shared = files("one"), files("out")
    assert {name for name in alone if alone[name] != shared[name]} == {"0.png"}


def test_the_logs_of_two_processes_stay_if_they_cannot_become_one(tiny_checkpoint, tmp_path):
    for seed in range(2):
        make(tmp_path / f"in/{seed}.png", seed=seed)
    (tmp_path / "log.json").mkdir()
    command = [sys.executable, *TWO, ROOT / "tiled_infer.py", "--log-file", "log.json", "--input"]
    command += ["in", "--strength", "0", "--weights", tiny_checkpoint()]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stderr.count("refusion: warning: log: 'log.json' cannot be written") == 1
    assert done.stdout.startswith("2 photos restored in ")
    parts = [photos_of(tmp_path / f"log.part{rank}.json") for rank in range(2)]
    assert sorted(photo["input"] for part in parts for photo in part) == ["in/0.png", "in/1.png"]
