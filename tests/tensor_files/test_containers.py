"""The size of a safetensors file is checked before a library reads it."""

from pathlib import Path

import pytest

from refusion.errors import CheckpointError
from refusion.official.weights import read_official
from refusion.tensor_files.pickles import MAX_FILE


@pytest.mark.parametrize(
    ("start", "size", "message"),
    [
        (b"\x10\0\0\0\0\0\0\0{", 20, "is truncated: 20 bytes, its header alone needs 24"),
        (b"\x02\0\0\0\0\0\0\0{}", MAX_FILE + 1, f"is {MAX_FILE + 1} bytes long, expected a file"),
        (b"\0\0\0\0\1\0\0\0{", 20, "is not a safetensors file (its header would be 4294967296"),
        (b"", 0, "is not a safetensors file"),
    ],
    ids=range(4),
)
def test_wrong_sizes(tmp_path: Path, start: bytes, size: int, message: str):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)  # a hole in the file takes no space on the disk
    with pytest.raises(CheckpointError) as caught:
        read_official(path)
    assert str(caught.value).startswith(f"{path}: {message}")
