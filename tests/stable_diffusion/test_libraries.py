"""The .json files of a folder of Stable Diffusion come from anywhere."""

from pathlib import Path

import pytest

from refusion.errors import CheckpointError
from refusion.stable_diffusion.libraries import read_json


def test_a_large_file_is_refused_unread(tmp_path: Path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole in the file takes no space on the disk
    with pytest.raises(CheckpointError, match=r"config\.json: .* more than 1048576 bytes"):
        read_json(path)


def test_a_missing_file_is_empty(tmp_path: Path):
    assert read_json(tmp_path / "config.json") == {}
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "config.json") == {"a": 1}
