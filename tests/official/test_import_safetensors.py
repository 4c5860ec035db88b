"""`refusion import` reads the authors' layout in safetensors files as in .pth files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from official_cases import recorded_weights
from safetensors.torch import save_file

from refusion.checkpoint import read_checkpoint
from refusion.cli.import_official import run
from refusion.errors import CheckpointError
from refusion.official.weights import read_official

STATE, _ = recorded_weights("conditional_nafnet_pixel")


def write_header(path: Path, header: object, data: bytes = b"") -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def entry(shape: list[int], start: int, end: int) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def test_both_formats_give_the_same_checkpoint(tmp_path: Path):
    save_file(STATE, tmp_path / "net.safetensors")
    torch.save(STATE, tmp_path / "net.pth")
    made = []
    for suffix in ("safetensors", "pth"):
        output = tmp_path / f"{suffix}.out.safetensors"
        source = str(tmp_path / f"net.{suffix}")
        assert run(["--net", source, "--task", "derain", "-o", str(output)]) == 0
        made.append(read_checkpoint(output))
    assert made[0].model == made[1].model
    assert all(torch.equal(made[0].tensors[n], made[1].tensors[n]) for n in made[1].tensors)


def test_weights_without_settings_name_the_command(tmp_path: Path):
    save_file(STATE, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="'refusion import --net FILE -o OUTPUT'"):
        read_checkpoint(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b'{"a":' + b"[" * 10**5, b"", "damaged or no safetensors file"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12), "damaged or no safetensors"),
        ({"a": entry([2**62, 4], 0, 4)}, bytes(4), "damaged or no safetensors file"),
        ({"a": entry([1], 0, 4)}, b"", "damaged or no safetensors file"),
        ({"a": {**entry([1], 0, 4), "dtype": "F99"}}, bytes(4), "damaged or no safetensors file"),
        ({"\x1b[31m\na": {**entry([1], 0, 4), "dtype": "F32"}}, b"\xff" * 4,
         "tensor '\\x1b[31m\\na' holds NaN or infinity"),
        ({"__metadata__": {"refusion": "[" * 10**5}, "a": entry([1], 0, 4)}, bytes(4),
         "is a checkpoint already, in a safetensors file; give it to --weights"),
        (b"{" + b" " * 5 * 2**20, b"", "is not a safetensors file (its header would be 5242881"),
    ],
    ids=range(8),
)  # fmt: skip
def test_hostile_headers(tmp_path: Path, header: object, data: bytes, message: str):
    path = write_header(tmp_path / "a.safetensors", header, data)
    with pytest.raises(CheckpointError) as caught:
        read_official(path)
    shown = str(caught.value).removeprefix(f"{path}: ")
    assert shown.startswith(message)
    assert len(shown) < 280
    assert shown.isprintable()
