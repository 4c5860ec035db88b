"""Weights files come from anywhere: what is refused, and in which words."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from checkpoint_cases import MODEL, make_tensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from refusion.checkpoint import build_model, read_checkpoint, save_checkpoint
from refusion.config import ModelConfig, config_to_dict
from refusion.errors import CheckpointError
from refusion.weights import find_weights


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return make_tensors()


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, MODEL, tensors, {})
    return path


def rewrite(path: Path, head: object | None, tensors: dict[str, Tensor] | None = None) -> None:
    """A file with forged metadata: `head` is JSON text or values, None leaves it out."""
    text = head if isinstance(head, str) else json.dumps(head)
    tensors = load_file(path) if tensors is None else tensors
    save_file(tensors, path, metadata=None if head is None else {"refusion": text})


def head_of(**edits: object) -> dict:
    head = {"format": 1, "task": "dehaze", "config": config_to_dict(MODEL), "info": {}}
    return {**head, **edits}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(str(path))


def test_a_missing_file(tmp_path: Path):
    assert refusal(tmp_path / "x.safetensors") == ": no such weights file"


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_unopened(tmp_path: Path, zipped: bool):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "net.pth"
    if zipped:
        torch.save({"w": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    assert "is a PyTorch pickle" in refusal(path)
    assert not (tmp_path / "exploded").exists()


def test_a_header_length_that_looks_like_a_pickle_is_read(tmp_path: Path):
    """Pickles start with byte 0x80, and so does one header length in 32 (all multiples of 8)."""
    path = tmp_path / "m.safetensors"
    for padding in range(0, 256, 8):
        save_checkpoint(path, MODEL, {"network.w": torch.ones(1)}, {"note": "x" * padding})
        read_checkpoint(path)
        if path.read_bytes()[0] == 0x80:
            return
    pytest.fail("no header length began with 0x80")


def test_a_file_that_is_larger_than_its_networks_is_refused_before_it_is_read(path: Path):
    rewrite(path, head_of(), {"network.w": torch.zeros(2_000_000)})
    assert "but the networks of its stored config have" in refusal(path)


def test_a_pipe_is_found_and_refused(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    os.mkfifo(path)
    assert find_weights(path) == path
    assert "is a pipe, expected a regular file" in refusal(path)


@pytest.mark.parametrize("T", [10**9, 10**30, 0, -1, 1.5, True, "100", None])
def test_forged_numbers_of_steps(path: Path, T: object):
    config = config_to_dict(MODEL)
    rewrite(path, head_of(config={**config, "sde": {**config["sde"], "T": T}}))
    message = refusal(path)
    assert "(stored config): sde.T: " in message
    assert len(message) < 300


def test_forged_information_of_many_levels(path: Path):
    info: dict = {}
    for _ in range(100):
        info = {"a": info}
    rewrite(path, head_of(info=info))
    assert "its information has more than 20 levels" in refusal(path)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_truncated_files(path: Path, keep: int):
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(path)
    assert "truncated" in message or "is not a safetensors file" in message


def test_absurd_header_length(path: Path):
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])
    assert f"its header would be {2**62} bytes long" in refusal(path)


def test_header_of_garbage(path: Path):
    path.write_bytes(struct.pack("<Q", 64) + b"{" * 64)
    assert "damaged or truncated safetensors file" in refusal(path)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (None, "has no 'refusion' metadata: it was not written by this project"),
        ("{", "metadata is not JSON"),
        ("[" * 100_000, "metadata is not JSON"),
        ([1], "metadata has no format number"),
        ({"task": "dehaze"}, "metadata has no format number"),
        (head_of(format=2), "has checkpoint format 2; this version reads format 1"),
        (head_of(format=True), "has checkpoint format True; this version"),
        (head_of(format="9" * 99), f"has checkpoint format {'9' * 20}; this"),
        (head_of(task="derain"), "contradicts itself (task or info)"),
        (head_of(info=3), "contradicts itself (task or info)"),
        (head_of(config=None), "expected a section of 'key: value' lines, got nothing (null)"),
        (head_of(config={**config_to_dict(MODEL), "solver": "x"}),
         "(stored config): solver: unknown key"),
        (head_of(config={**config_to_dict(MODEL), "network": {"type": "os.system"}}),
         "network.type: unknown type 'os.system'; expected one of: ConditionalNAFNet"),
    ],
)  # fmt: skip
def test_forged_metadata(path: Path, head: object, message: str):
    rewrite(path, head)
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("network.w", torch.tensor([float("nan")]), "'network.w' holds NaN or infinity"),
        ("optimizer.w", torch.ones(1), "'optimizer.w' is not called network.* or latent_unet.*"),
        ("network", torch.ones(1), "'network' is not called"),
        ("network.w", torch.ones(1, dtype=torch.uint8), "'network.w' has dtype torch.uint8"),
    ],
)
def test_odd_tensors(path: Path, name: str, tensor: Tensor, message: str):
    rewrite(path, head_of(), {name: tensor})
    assert message in refusal(path)


def unfit(path: Path, tensors: dict[str, Tensor], model: ModelConfig = MODEL) -> str:
    save_checkpoint(path, model, tensors, {})
    with pytest.raises(CheckpointError) as error:
        build_model(read_checkpoint(path))
    return str(error.value)


def test_missing_unexpected_and_misshaped_tensors_are_listed(
    path: Path, tensors: dict[str, Tensor]
):
    names = sorted(name for name in tensors if name.startswith("latent_unet."))
    wrong = {name: tensor for name, tensor in tensors.items() if name not in names[:5]}
    wrong["network.extra"] = torch.ones(1)
    wrong["network.intro.weight"] = torch.ones(2, 3)
    shape = tuple(tensors["network.intro.weight"].shape)
    message = unfit(path, wrong)
    assert f"missing: {', '.join(names[:3])}, ... (5 in all); " in message
    assert "unexpected: network.extra; " in message
    assert f"wrong shape: network.intro.weight (2, 3) instead of {shape}. " in message
    assert "Use the file as it was written" in message


def test_tensors_of_a_part_without_config_are_unexpected(path: Path, tensors: dict[str, Tensor]):
    message = unfit(path, tensors, ModelConfig("dehaze", MODEL.latent_unet))
    count = sum(name.startswith("network.") for name in tensors)
    assert "unexpected: network." in message
    assert f"({count} in all)" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 10**9}, "network.width: must be at least 1 and at most 4096, got 1000000000"),
        ({"middle_blk_num": 10**7}, "network.middle_blk_num: must be at least 0 and at most 256"),
        ({"enc_blk_nums": [4000, 4000]}, "network.enc_blk_nums.0: must be at least 0"),
        ({"width": 4096}, "wrong shape: network."),  # gigabytes, if it were built to be compared
        ({"wiring": "loop"}, "network cannot be built: wiring: expected 'pixel' or 'latent'"),
        ({"enc_blk_nums": [1, 1]}, "network cannot be built"),
        ({"width": -4}, "network.width: must be at least 1 and at most 4096, got -4"),
        ({"width": 10**30}, "network.width: must be at least 1 and at most 4096, got a whole"),
        ({"width": True}, "network.width: expected a whole number, got true"),
        ({"enc_blk_nums": [0] * 8, "dec_blk_nums": [0] * 8, "width": 4096},
         "network cannot be built: it has more than 2000000000 values"),
    ],
)  # fmt: skip
def test_forged_sizes_do_not_exhaust_memory(
    path: Path, tensors: dict[str, Tensor], settings: dict, message: str
):
    forged = config_to_dict(MODEL)
    forged["network"] |= settings
    rewrite(path, head_of(config=forged), tensors)
    with pytest.raises(CheckpointError) as error:
        build_model(read_checkpoint(path))
    assert message in str(error.value)
