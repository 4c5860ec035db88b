"""The space of uploads and results."""

import os
import shutil
from collections import namedtuple

import pytest

from refusion.app.storage import Storage, StorageFullError

MB = 2**20
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def storage(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    return Storage(tmp_path, served, 10 * MB)


def add(storage, name, size, folder=None):
    """Write a file; each one is a little younger than the one before."""
    path = (folder or storage.served / name) / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_the_oldest_files_are_deleted_first(storage, monkeypatch):
    times = {}
    real = os.lstat

    def aged(path):
        status = real(path)
        return os.stat_result([*status[:9], times.get(str(path), 0)])

    paths = [add(storage, name, 3 * MB) for name in "bca"]
    times.update({str(path): 10 - age for path, age in zip(paths, (1, 3, 2), strict=True)})
    monkeypatch.setattr("pathlib.Path.lstat", aged)
    storage.make_room(3 * MB)
    assert [path.exists() for path in paths] == [True, False, True]
    assert not paths[1].parent.exists()
    storage.make_room(5 * MB)
    assert [path.exists() for path in paths] == [True, False, False]


def test_nothing_is_deleted_for_an_upload_that_cannot_fit(storage):
    path = add(storage, "a", 3 * MB)
    with pytest.raises(StorageFullError, match="no space"):
        storage.make_room(11 * MB)
    assert path.exists()


def test_files_of_the_running_restoration_count_and_stay(storage):
    working = add(storage, "photo", 8 * MB, storage.folder / "working")
    old = add(storage, "old", MB)
    with pytest.raises(StorageFullError):
        storage.make_room(3 * MB)
    storage.make_room(2 * MB)
    assert working.exists()
    assert not old.exists()


def test_uploads_at_the_same_time_are_counted_together(storage):
    with storage.receiving(4 * MB), storage.receiving(4 * MB):
        with pytest.raises(StorageFullError), storage.receiving(3 * MB):
            pass
        with storage.receiving(2 * MB):
            pass
    with storage.receiving(10 * MB):
        pass


def test_an_upload_of_unknown_size_is_counted_while_it_comes(storage):
    with storage.receiving() as grow, storage.receiving(5 * MB):
        grow(4 * MB)
        with pytest.raises(StorageFullError):
            grow(6 * MB)
    with storage.receiving(9 * MB) as grow:
        grow(9 * MB)


def test_a_part_that_is_on_the_disk_is_not_counted_twice(storage):
    with storage.receiving(6 * MB):
        add(storage, "part", 6 * MB, storage.served)
        with storage.receiving(4 * MB):
            pass


def test_what_a_broken_upload_left_is_deleted_after_the_last_upload(storage):
    kept = add(storage, "kept", MB)
    with storage.receiving(MB):
        with storage.receiving(MB):
            part = add(storage, "part", MB, storage.served)
        assert part.exists()
    assert not part.exists()
    assert kept.exists()


def test_many_small_files_are_limited(storage):
    for number in range(200):
        add(storage, f"{number}", 1)
    storage.make_room()
    assert len(list(storage.served.rglob("*.png"))) == 160  # 64 KiB each


def test_the_disk_does_not_become_full(storage, monkeypatch):
    old = add(storage, "old", MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 2**28 + 3 * MB))
    storage.make_room(3 * MB)
    assert old.exists()
    with pytest.raises(StorageFullError, match="disk"):
        storage.make_room(5 * MB)
    storage.make_room(4 * MB)
    assert not old.exists()
