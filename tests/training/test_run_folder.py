"""A run folder from somebody else: nothing is written through links, and states are checked."""

import os
import zipfile

import pytest
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.errors import CheckpointError, ConfigError
from refusion.training import Trainer
from refusion.training.run_folder import run_lock

CPU = torch.device("cpu")
NAMES = (".lock", "config.yml", "model.safetensors", "state.pt", "latents.safetensors")


@pytest.fixture
def run(tmp_path):
    """Function that trains the run `tmp_path / runs / tiny_diffusion`."""
    photos = make_photos(tmp_path / "photos")

    def train(**changes):
        config = run_config("diffusion", photos, tmp_path / "cache", **changes)
        trainer = Trainer(config, device=CPU, runs=tmp_path / "runs")
        trainer.train()
        return trainer

    return train


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs" / "tiny_diffusion"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("target", ["file", "missing", "pipe", "folder", "/dev/zero"])
@pytest.mark.parametrize("name", [*NAMES, "tensorboard"])
def test_nothing_is_written_through_a_link(run, folder, name, target, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (folder / name).symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match=rf"{folder / name}: is a link, .*; remove it"):
        run()
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "folder").iterdir())
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_or_a_folder_is_no_file_of_a_run(run, folder, name):
    (folder / name).mkdir()
    with pytest.raises(ConfigError, match=f"{folder / name}: is a folder"):
        run()
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    with pytest.raises(ConfigError, match=f"{folder / name}: is a pipe"):
        run()


@pytest.mark.parametrize("name", ["config.yml", "model.safetensors", "best.safetensors"])
def test_files_of_something_else_are_not_replaced(run, folder, name):
    (folder / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{folder}: has {name} of something else"):
        run()
    assert (folder / name).read_text() == "mine" and len(list(folder.iterdir())) == 1


def test_a_run_without_its_state_begins_anew(run):
    run(train=TRAIN | {"steps": 1}).state_file.unlink()
    assert run(train=TRAIN | {"steps": 1}).step == 1


def test_a_lock_that_becomes_a_link_is_refused(folder, tmp_path):
    (folder / ".lock").symlink_to(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"\.lock: is a link"), run_lock(folder):
        pass
    assert not (tmp_path / "missing").exists()


def test_the_run_folder_itself_may_be_a_link(run, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny_diffusion").symlink_to(tmp_path / "disk")
    run(train=TRAIN | {"steps": 1})
    assert {path.name for path in (tmp_path / "disk").iterdir()} >= {"state.pt", "tensorboard"}


def set_at(*keys, value):
    def change(state):
        *outer, last = keys
        for key in outer:
            state = state[key]
        state[last] = value

    return change


def moment(value):
    return set_at("optimizer", "state", 0, "exp_avg", value=value)


# A tensor of a terabyte that takes four bytes in the file.
huge_view = moment(torch.zeros(1, dtype=torch.int8).expand(2**40))


FORGED = {
    "step: expected": set_at("step", value="three"),
    "step: expected a number of steps, got -1": set_at("step", value=-1),
    "step: expected a number of steps, got 1000": set_at("step", value=10**40),
    "step: expected a number of steps, got True": set_at("step", value=True),
    "trained_s: expected": set_at("trained_s", value=float("nan")),
    "waited_s: expected": set_at("waited_s", value=[]),
    "scores: expected": set_at("scores", value={"a": "b"}),
    "without config": lambda state: state.pop("config"),
    "size mismatch": set_at("module", value={}),
    "a tensor claims more values than the file holds": huge_view,
    "optimizer: exp_avg has size (2, 2)": moment(torch.zeros(2, 2)),
    "optimizer: exp_avg has size ()": moment(torch.tensor(1.0)),
    "optimizer: exp_avg is a str": moment("x"),
    "cannot be resumed": set_at("optimizer", value=3),
    "cannot be resumed from": set_at("optimizer", "state", value={10**6: {}}),
    "cannot be resumed from (": set_at("ema", value=None),
}


@pytest.mark.parametrize("message", FORGED)
def test_a_forged_state_is_one_line(run, folder, message):
    path = run(train=TRAIN | {"steps": 1}).state_file
    state = torch.load(path, weights_only=True)
    FORGED[message](state)
    torch.save(state, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be resumed from \(") as caught:
        run()
    assert message.replace("size mismatch", "Missing key") in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800
    assert path.read_bytes() == before


def test_a_state_that_unpacks_to_much_more_than_its_size_is_refused(run, folder):
    path = run(train=TRAIN | {"steps": 1}).state_file
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/999", bytes(2**28))
    with pytest.raises(CheckpointError, match=r"state\.pt: .*unpacks to"):
        run()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_a_state_that_cannot_be_written_keeps_the_last_one(run, folder, monkeypatch, error):
    path = run(train=TRAIN | {"steps": 2}).state_file
    before = path.read_bytes()

    def full(stored, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr("refusion.training.state.torch.save", full)
    message = r"state\.pt: cannot be written \(.*\); the file of the last checkpoint is kept"
    with pytest.raises(CheckpointError, match=message):
        run(train=TRAIN | {"steps": 4})
    assert path.read_bytes() == before
    assert not list(folder.glob("*.part"))
