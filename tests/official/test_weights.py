"""Reading .pth files: every wrapping the release uses, and nothing that could do harm."""

import os
import pickle
from collections import OrderedDict

import pytest
import torch
from official_cases import recorded_weights, save_pth

from refusion.errors import CheckpointError
from refusion.official.weights import read_official

PLAIN, _ = recorded_weights("conditional_nafnet_pixel")


def prefixed(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in PLAIN.items()}


def averaging_object():
    """What `ema_pytorch.EMA(nn.DataParallel(network)).state_dict()` holds."""
    changed = {k: v + 1 for k, v in prefixed("online_model.module.").items()}
    counters = {"initted": torch.tensor(True), "step": torch.tensor(7)}
    return changed | prefixed("ema_model.module.") | counters


WRAPPINGS = {
    "plain": PLAIN,
    "ordered": OrderedDict(PLAIN),
    "data parallel": prefixed("module."),
    "distributed, compiled": prefixed("module._orig_mod."),
    "average alone": prefixed("ema_model."),
    "averaging object": averaging_object(),
    "params": {"params": PLAIN},
    "params_ema first": {"params": {"x": torch.zeros(1)}, "params_ema": PLAIN},
    "state_dict": {"state_dict": prefixed("module."), "epoch": 3},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_every_wrapping_gives_the_same_tensors(tmp_path, name):
    read = read_official(save_pth(tmp_path / "a.pth", WRAPPINGS[name]))
    assert read.keys() == PLAIN.keys()
    assert all(torch.equal(read[key], PLAIN[key]) for key in PLAIN)


def test_old_format_is_read(tmp_path):
    torch.save(PLAIN, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    read = read_official(tmp_path / "a.pth")
    assert all(torch.equal(read[key], PLAIN[key]) for key in PLAIN)


class Creates:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, zipped):
    made, path = tmp_path / "made", tmp_path / "evil.pth"
    state = PLAIN | {"extra": Creates(made)}
    if zipped:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.pth: holds Python objects besides"):
        read_official(path)
    assert not made.exists()
    if zipped:
        torch.load(path, weights_only=False)
        assert made.exists()  # the file would have done it


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_truncated_file(tmp_path, kept):
    data = save_pth(tmp_path / "a.pth", PLAIN).read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"cut\.pth: is damaged or truncated"):
        read_official(tmp_path / "cut.pth")


REFUSED = {
    "number": ({"step": 3, **PLAIN}, "'step' is a int"),
    "list": ([torch.zeros(2)], "holds a list"),
    "nothing": ({}, "holds no tensors"),
    "training state": ({"epoch": 1, "iter": 5, "optimizers": []}, r"training state.*_G\.pth"),
    "endless view": ({"a": torch.zeros(1).expand(10**12)}, "claims more values"),
    "diverged": (PLAIN | {"a": torch.tensor([1.0, float("nan")])}, "'a' holds NaN"),
    "sparse": ({"a": torch.eye(3).to_sparse()}, "not stored densely"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_weights_is_refused(tmp_path, name):
    state, message = REFUSED[name]
    with pytest.raises(CheckpointError, match=message):
        read_official(save_pth(tmp_path / "a.pth", state))


def test_what_is_not_a_torch_file_is_refused(tmp_path, tiny_checkpoint):
    (tmp_path / "a.pth").write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(CheckpointError, match="was not written by PyTorch"):
        read_official(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="safetensors file; give it to --weights"):
        read_official(tiny_checkpoint("pixel"))
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_official(tmp_path / "b.pth")
