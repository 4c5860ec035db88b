"""Photos that a list leaves out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dataset_cases import save_photo

from refusion.config.parser import Component
from refusion.data.exclusions import read_exclusions
from refusion.data.synthetic_pairs import SyntheticPairs
from refusion.errors import ConfigError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("a.png", "more/b.png", "c d.png"):
        save_photo(tmp_path / "photos" / name)
    return tmp_path / "photos"


def names(photos: Path, exclude: Path | None) -> set[str]:
    pairs = SyntheticPairs(
        folders=[photos],
        degradation=Component("Haze"),
        patch=16,
        cache=photos.parent / "cache",
        exclude=exclude,
    )
    return {path.name for path in pairs.photos}


def test_listed_photos_are_left_out(photos: Path):
    listed = photos.parent / "list.txt"
    listed.write_text("# 0.87 hazy\nb.png\n\n  c d.png  \nnot there.png\n", encoding="utf-8")
    assert names(photos, None) == {"a.png", "b.png", "c d.png"}
    assert names(photos, listed) == {"a.png"}


def test_a_list_of_other_photos_gives_a_warning(photos: Path, caplog):
    listed = photos.parent / "list.txt"
    listed.write_text("other.png\n", encoding="utf-8")
    assert names(photos, listed) == {"a.png", "b.png", "c d.png"}
    assert "list.txt lists none of the 3 photos" in caplog.text


def test_a_list_of_all_photos_is_an_error(photos: Path):
    listed = photos.parent / "list.txt"
    listed.write_text("a.png\nb.png\nc d.png\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"exclude: .*list\.txt lists all 3 photos"):
        names(photos, listed)


def test_a_path_in_a_list_is_an_error(tmp_path: Path):
    (tmp_path / "list.txt").write_text("a.png\nmore/b.png\n# x/y.png\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"list\.txt: expected file names, got .*more/b\.png"):
        read_exclusions(tmp_path / "list.txt")


def test_files_that_are_no_lists(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("binary", "pipe", "folder", "missing"):
        with pytest.raises(ConfigError, match=rf"exclude: .*{name}"):
            read_exclusions(tmp_path / name)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ConfigError, match="larger than 16 MiB"):
        read_exclusions(tmp_path / "large")
