"""Time plan, command lines, file limits and report of the GPU benchmark."""

import json
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import yaml

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import plan, report, rows
from benchmarks.gpu.parts import Outcome, Part
from refusion.checkpoint import read_checkpoint
from refusion.config.loading import config_from_dict

OPTIONS = sorted(Path("options").glob("*.yml"))


@pytest.fixture
def setting(tmp_path):
    photos, files = tmp_path / "photos", (Path("options/toy.yml"), Path("options/toy_unet.yml"))
    photos.mkdir()
    return plan.with_folders(
        plan.Setting(540.0, "cuda", 16, photos, files, tmp_path / "work", tmp_path / "out")
    )


def test_parts_keep_their_share_and_the_trainings_get_the_rest(setting):
    used = 0.0
    for name in plan.SHARES:
        seconds = plan.limit(setting, name, used)
        assert 8 <= seconds <= 0.14 * 540
        used += seconds
    assert plan.limit(setting, "train", used) == pytest.approx(540 - setting.finish - used)
    assert plan.limit(setting, "train", used) > 300
    assert plan.limit(setting, "train", 60) == pytest.approx(540 - setting.finish - 60)
    assert plan.limit(setting, "tests", 530) < 5
    assert plan.limit(setting, "train", 560) == 0


@pytest.mark.parametrize("seconds", [15.0, 60.0, 320.0, 30000.0])
def test_a_training_ends_before_it_is_killed(seconds, setting):
    """Even if it takes 4 % longer than its own time."""
    for device in ("cpu", "cuda"):
        minutes = plan.training_minutes(replace(setting, device=device), seconds)
        assert 0 < 60 * minutes * 1.04 + plan.GRACE < seconds
        assert 60 * minutes > 0.9 * seconds - 10


def test_commands_of_the_trainings(setting):
    names = plan.run_names(setting.options)
    files = {name: setting.work / "options" / f"{name}.yml" for name in names}
    parts = plan.training_parts(setting, files, 300.0)
    assert [part.name for part in parts] == ["toy", "toy_unet"]
    for part in parts:
        text = " ".join(part.command)
        assert f"train.py -opt {files[part.name]} --set train.minutes=" in text
        assert f"--export {setting.work / 'exports' / part.name}.safetensors" in text
        assert f"--runs {setting.work / 'runs'} --export" in text
        assert "--device cuda" in text
        assert part.seconds == 300.0 and part.grace == plan.GRACE
        assert part.environment["OMP_NUM_THREADS"] == "1"
    on_cpu = plan.training_parts(replace(setting, device="cpu", cores=8), files, 300.0)
    assert {part.environment["OMP_NUM_THREADS"] for part in on_cpu} == {"4"}


def test_commands_of_the_measurements(setting):
    tests = plan.measuring_part(setting, "tests", 70.0)
    assert tests.command[2:5] == ("pytest", "-m", "gpu and not slow")
    assert str(plan.ROOT / "tests/gpu") in tests.command
    for name in ("inference", "networks", "data"):
        part = plan.measuring_part(setting, name, 70.0)
        texts = list(part.command)
        assert texts[1:3] == ["-m", f"benchmarks.gpu.{name}"]
        assert float(texts[texts.index("--seconds") + 1]) < 70.0 - part.grace
        assert str(setting.photos) in texts


def test_other_tests_with_the_marker_are_found(tmp_path):
    (tmp_path / "gpu").mkdir()
    for name in ("gpu/test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text("@pytest.mark.gpu" if name != "test_c.py" else "")
    assert plan.gpu_tests(tmp_path) == [str(tmp_path / "gpu"), str(tmp_path / "test_b.py")]


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: file.stem)
def test_every_option_file_becomes_a_training_by_the_clock(file, setting):
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    content = plan.training_options(setting, raw, "a_name")
    content["train"]["minutes"] = 2.5
    config = config_from_dict(yaml.safe_load(yaml.safe_dump(content)), str(file))
    assert (config.name, config.train.steps, config.train.minutes) == ("a_name", None, 2.5)
    assert config.data.workers == 7
    for each in (config.data.train, *config.data.validation):
        if "folders" in each.settings:
            assert list(each.settings["folders"]) == [str(setting.photos)]
            assert each.settings["cache"] == str(setting.work / "cache")
    assert config.network == config_from_dict(raw).network


def test_long_weights_come_back_in_parts(tmp_path):
    path, out = tmp_path / "a.safetensors", tmp_path / "out"
    out.mkdir()
    path.write_bytes(bytes(range(250)))
    assert report.split(path, out, 250) == ("a.safetensors",)
    names = report.split(path, out, 100)
    assert names == ("a.safetensors.000", "a.safetensors.001", "a.safetensors.002")
    assert b"".join((out / name).read_bytes() for name in names) == path.read_bytes()


@pytest.mark.parametrize(("places", "count"), [(1, 1), (0, 0)])
def test_weights_are_left_out_where_no_more_files_may_come_back(places, count, setting):
    tiny_models.save("pixel", setting.work / "exports" / "toy.safetensors")
    training = report.collect(Outcome("toy", "passed"), setting.work, setting.out, places)
    assert len(training.files) == len(list(setting.out.iterdir())) == count
    assert ("left out" in training.note) == (count == 0)


def test_the_last_checkpoint_is_exported_if_a_training_was_stopped(setting):
    checkpoint = setting.work / "runs" / "toy" / "model.safetensors"
    tiny_models.save("pixel", checkpoint)
    training = report.collect(Outcome("toy", "killed by SIGKILL"), setting.work, setting.out, 5)
    assert training.files == ("toy.safetensors",)
    assert training.note == "from its last checkpoint"
    size = (setting.out / "toy.safetensors").stat().st_size
    assert size < 0.7 * checkpoint.stat().st_size
    tensors = read_checkpoint(setting.out / "toy.safetensors").tensors
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float16"}
    damaged = setting.work / "runs" / "other" / "model.safetensors"
    damaged.parent.mkdir()
    damaged.write_bytes(b"x" * 100)
    assert report.collect(Outcome("other", "x"), setting.work, setting.out, 5).files == ()


def test_the_archive_of_logs_keeps_its_limit_and_the_end_of_long_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_LOG_BYTES", 1000)
    files = {"short": b"a" * 10, "long": b"b" * 5000 + b"end", "longer": b"c" * 6000}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    target = tmp_path / "logs.tar.gz"
    given = [(name, tmp_path / name) for name in files]
    left_out = report.pack_logs(given, target, 2**16 + 2 * 2048 + 1500)
    assert left_out == ["longer"]
    with tarfile.open(target) as archive:
        assert sorted(archive.getnames()) == ["long", "short"]
        content = archive.extractfile("long").read()
    assert len(content) == 1000 and content.endswith(b"end")


def test_rows_survive_a_program_that_was_killed(tmp_path):
    log = tmp_path / "log"
    log.write_text('noise\n{"table": "a", "x": 1}\n{"table": "a", "y": 2')
    assert rows.read_rows(log) == [{"table": "a", "x": 1}]


def test_an_error_of_a_measurement_is_a_row(capsys):
    with rows.row_of_errors("t", model="a"):
        raise ValueError("no\nkernel")
    with rows.row_of_errors("t", model="b"):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    rows.emit("t", model="c", error=rows.LEFT_OUT)
    rows.emit("t", model="d")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("error") for row in found] == [
        "no kernel",
        "out of memory",
        rows.LEFT_OUT,
        None,
    ]
    assert rows.failures(found) == 1


def test_a_table_has_all_columns_and_no_line_breaks():
    text = rows.markdown(
        [{"table": "t", "a": 1.23456, "b": "x|y\nz"}, {"table": "t", "c": 12345.6}]
    )
    assert text.splitlines() == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1.23 | x\\|y z |  |",
        "|  |  | 12346 |",
    ]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--minutes", "0"], "--minutes"),
        (["--photos", "/no/such"], "--photos"),
        (["--train", "no.yml"], "--train"),
    ],
)
def test_wrong_options_are_one_line(argv, text, capsys, tmp_path):
    assert command.main([*argv, "--out", str(tmp_path)]) == 2
    assert text in capsys.readouterr().err


def test_a_part_without_time_for_any_measurement_has_not_passed(setting, monkeypatch):
    left_out = f"from benchmarks.gpu.rows import emit; emit('t', error={rows.LEFT_OUT!r})"
    code = {"inference": left_out, "data": f"{left_out}; emit('t', a=1)"}

    def measurement(setting, name, seconds):
        return Part(name, (sys.executable, "-c", code[name]), 20.0)

    monkeypatch.setattr(command, "measuring_part", measurement)
    outcomes = command.run_measurements(setting, list(code), time.monotonic())
    assert [outcome.state for outcome in outcomes] == [rows.LEFT_OUT, "passed"]


def test_the_command_reports_every_part_and_fails_if_one_did(tmp_path, monkeypatch, capsys):
    """The parts are fakes: a crash, a measurement with a failed row, a hang and a training."""
    fakes = {
        "tests": "raise SystemExit(1)",
        "inference": 'print(\'{"table": "t", "a": 1, "error": "broken"}\')',
        "networks": "import time; time.sleep(60)",
        "data": 'print(\'{"table": "t", "a": 2}\')',
    }

    def measurement(setting, name, seconds):
        return Part(name, (sys.executable, "-c", fakes[name]), 2.0, grace=0.5)

    def trainings(setting, files, seconds):
        tiny_models.save("pixel", setting.work / "runs" / "toy" / "model.safetensors")
        return [Part(name, (sys.executable, "-c", "print('step 3')"), 5.0) for name in files]

    monkeypatch.setattr(command, "measuring_part", measurement)
    monkeypatch.setattr(command, "training_parts", trainings)
    argv = ["--minutes", "1", "--train", "options/toy.yml", "options/toy.yml", "--device", "cpu"]
    assert command.main([*argv, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "| tests | failed with exit code 1 |" in shown
    assert "| inference | 1 measurements failed |" in shown
    assert "| networks | stopped after" in shown
    assert "| data | passed |" in shown and "| toy_2 | passed |" in shown
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["logs.tar.gz", "report.json", "report.md", "toy.safetensors"]
    content = json.loads((tmp_path / "report.json").read_text())
    assert [row["a"] for row in content["tables"]["t"]] == [1, 2]
    notes = {each["name"]: each["note"] for each in content["trainings"]}
    assert notes == {"toy": "from its last checkpoint", "toy_2": "no weights were written"}
    assert "step 3" in (tmp_path / "report.md").read_text()
