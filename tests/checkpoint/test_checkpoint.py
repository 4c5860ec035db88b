"""Checkpoints: exact storage and whole-or-nothing writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoint_cases import MODEL, make_tensors
from torch import Tensor

import refusion.checkpoint
from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint
from refusion.config import ModelConfig, config_to_dict
from refusion.errors import CheckpointError, ConfigError
from refusion.nets import LatentUNet
from refusion.weights import find_weights

INFO = {"step": 3, "psnr": {"held_out": 20.5}, "name": "dünn"}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return make_tensors()


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    path = tmp_path / "runs" / "model.safetensors"  # the folder does not exist yet
    save_checkpoint(path, MODEL, tensors, INFO)
    return path


def test_round_trip_is_bit_exact(path: Path, tensors: dict[str, Tensor]):
    checkpoint = read_checkpoint(path)
    assert checkpoint.model == MODEL
    assert checkpoint.info == INFO
    assert checkpoint.path == path
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert checkpoint.tensors[name].dtype == torch.float32
        assert torch.equal(checkpoint.tensors[name], tensor), name


def test_networks_are_rebuilt_with_their_weights(path: Path, tensors: dict[str, Tensor]):
    model = build_model(read_checkpoint(path))
    assert model.config == MODEL
    for part, net in (("network", model.network), ("latent_unet", model.latent_unet)):
        assert not net.training
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, tensors[f"{part}.{name}"])
        assert not any(p.requires_grad for p in net.parameters())
    image = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    assert torch.isfinite(model.latent_unet.encode(image).z).all()  # no buffer left unmaterialised


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_storage_rounds_once_and_loads_as_float32(
    path: Path, tensors: dict[str, Tensor], dtype: torch.dtype, error: float
):
    full = path.stat().st_size
    save_checkpoint(path, MODEL, tensors, INFO, dtype=dtype)
    assert path.stat().st_size < 0.7 * full  # the header does not shrink
    checkpoint = read_checkpoint(path)
    for name, tensor in checkpoint.tensors.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, tensors[name].to(dtype))
        torch.testing.assert_close(tensor.float(), tensors[name], rtol=error, atol=1e-7)
    assert next(build_model(checkpoint).network.parameters()).dtype == torch.float32


def test_integers_keep_their_dtype_in_half_storage(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, MODEL, {"network.count": torch.tensor(2**40)}, {}, dtype=torch.float16)
    assert read_checkpoint(path).tensors["network.count"].item() == 2**40


def test_views_and_shared_memory_are_stored_by_value(tmp_path: Path):
    base = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, MODEL, {"network.a": base, "network.b": base.T}, {})
    stored = read_checkpoint(path).tensors
    assert torch.equal(stored["network.a"], base)
    assert torch.equal(stored["network.b"], base.T)


def test_the_latent_stage_stores_only_its_unet(tmp_path: Path, tensors: dict[str, Tensor]):
    own = {name: t for name, t in tensors.items() if name.startswith("latent_unet.")}
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, ModelConfig("dehaze", MODEL.latent_unet), own, {})
    model = build_model(read_checkpoint(path))
    assert model.network is None
    assert isinstance(model.latent_unet, LatentUNet)


def test_a_failing_write_keeps_the_old_file(
    path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    before = path.read_bytes()

    def full_disk(stored: dict, target: Path, metadata: dict) -> None:
        Path(target).write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(refusion.checkpoint.file, "save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space.*\); free disk space"):
        save_checkpoint(path, MODEL, tensors, {"step": 9})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]  # nothing left aside


@pytest.mark.parametrize("name", ["", "file/m.safetensors"])
def test_a_name_that_cannot_be_a_file_is_not_a_full_disk(
    tmp_path: Path, tensors: dict[str, Tensor], name: str
):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot be written \(.*\); choose another name$"):
        save_checkpoint(tmp_path / name, MODEL, tensors, {})


def test_an_interrupt_before_the_rename_keeps_the_old_file(
    path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, MODEL, tensors, {"step": 9})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_cannot_be_stored_are_not_written(path: Path, value: float):
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"'network\.w' holds NaN or infinity"):
        bad = {"network.w": torch.tensor([0.0, value])}
        save_checkpoint(path, MODEL, bad, {}, dtype=torch.float16)  # 1e6 overflows half precision
    assert path.read_bytes() == before


def test_the_config_may_be_given_as_plain_values(tmp_path: Path, tensors: dict[str, Tensor]):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, config_to_dict(MODEL), tensors, {})
    assert read_checkpoint(path).model == MODEL
    with pytest.raises(ConfigError, match="tsk: unknown key; did you mean 'task'"):
        save_checkpoint(path, {"tsk": 1}, tensors, {})


def test_weights_are_found_by_path_and_by_task(path: Path, tmp_path: Path):
    assert find_weights(path) == path
    assert find_weights(str(path)) == path
    shipped = tmp_path / "weights"
    shipped.mkdir()
    (shipped / "dehaze.safetensors").touch()
    (shipped / "derain.safetensors").touch()
    assert find_weights("dehaze", shipped) == shipped / "dehaze.safetensors"
    with pytest.raises(CheckpointError, match=r"task 'dehase'; did you mean 'dehaze'\? \(shipped:"):
        find_weights("dehase", shipped)
    with pytest.raises(CheckpointError, match="task 'sing'; expected one of: dehaze, derain"):
        find_weights("sing", shipped)
    with pytest.raises(CheckpointError, match="task 'dehaze'; this installation ships none"):
        find_weights("dehaze", tmp_path)


def test_a_file_with_the_name_of_a_task_is_not_the_task(tmp_path: Path, monkeypatch):
    shipped = tmp_path / "weights"
    shipped.mkdir()
    (shipped / "dehaze.safetensors").touch()
    for name in ("dehaze", "mine"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert find_weights("dehaze", shipped) == shipped / "dehaze.safetensors"
    assert find_weights("./dehaze", shipped) == Path("dehaze")
    assert find_weights("mine", shipped) == Path("mine")


def test_one_step_takes_the_distilled_weights_where_there_are_any(tmp_path: Path):
    for name in ("dehaze", "dehaze_one_step", "derain"):
        (tmp_path / f"{name}.safetensors").touch()
    found = {
        (t, n): find_weights(t, tmp_path, n).stem for t in ("dehaze", "derain") for n in (1, 4)
    }
    assert found.pop(("dehaze", 1)) == "dehaze_one_step"
    assert all(stem == task for (task, _), stem in found.items())
    assert find_weights("dehaze", tmp_path).stem == "dehaze"


@pytest.mark.parametrize("name", ["model.safetensors", "runs/none", "../dehaze"])
def test_what_looks_like_a_path_is_never_a_task(tmp_path: Path, name: str):
    with pytest.raises(CheckpointError, match="no such weights file"):
        find_weights(name, tmp_path)


def test_default_weights_lie_in_the_package():
    with pytest.raises(CheckpointError, match="no default weights for task 'sing'"):
        find_weights("sing")
