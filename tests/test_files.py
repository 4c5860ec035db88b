"""Only regular files are read; writing a file is all or nothing."""

import hashlib
import os
import re
import socket
import stat
import time
from pathlib import Path

import pytest

from refusion.errors import CheckpointError, ImageError
from refusion.files import (
    as_path,
    atomic_write,
    check_no_link,
    check_regular,
    check_replaceable,
    ignores_case,
    may_exist,
    open_for_append,
    open_regular,
    sha256_of,
)


@pytest.mark.parametrize(
    ("value", "got"), [(None, "None"), (3, "3"), (b"x", "b'x'"), (["a"], "['a']"), ("", "an empty")]
)
def test_an_argument_that_is_no_path_gives_one_line(value, got):
    with pytest.raises(ImageError, match=rf"^x: expected a file, got {re.escape(got)}"):
        as_path(value, "x: expected a file", ImageError)


def test_texts_and_paths_are_paths():
    assert as_path("a/b", "x", CheckpointError) == as_path(Path("a/b"), "x", CheckpointError)


REFUSED = r"expected a|symbolic links|not a possible name"


def test_a_regular_file_and_a_link_to_it_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        check_regular(tmp_path / name)
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
            assert file.name == str(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    cases = {"pipe": "a pipe", "socket": "a socket", "/dev/zero": "a device", ".": "a folder"}
    for name, kind in cases.items():
        for read in (check_regular, open_regular, sha256_of):
            with pytest.raises(OSError, match=f"is {kind}, expected a"):
                read(tmp_path / name)


def test_a_file_that_becomes_a_pipe_after_the_check_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("refusion.files.check_regular", lambda path: None)
    with pytest.raises(OSError, match="is a pipe"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["pipe", "to_pipe", "to_itself", "folder", "/dev/null", "a\0b"])
def test_only_regular_files_are_replaced(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "to_itself").symlink_to("to_itself")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=REFUSED):
        check_replaceable(tmp_path / name)
    with pytest.raises(OSError, match=REFUSED), atomic_write(tmp_path / name):
        pass
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_appending_creates_a_file_and_keeps_what_is_there(tmp_path):
    for part in (b"one", b"two"):
        with open_for_append(tmp_path / "log") as file:
            file.write(part)
    assert (tmp_path / "log").read_bytes() == b"onetwo"


@pytest.mark.parametrize("target", ["other", "missing", "pipe", "link", "folder", "/dev/null"])
def test_nothing_is_written_through_a_link(tmp_path, target):
    (tmp_path / "other").write_text("mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(target)
    for write in (open_for_append, check_no_link):
        with pytest.raises(OSError, match="is a link, which is not written through"):
            write(tmp_path / "link")
    if target in ("other", "missing"):
        with atomic_write(tmp_path / "link") as aside:
            aside.write_text("new")
        assert not (tmp_path / "link").is_symlink()
        assert (tmp_path / "link").read_text() == "new"
    else:  # /dev/stdout is such a link, which the whole machine uses
        with pytest.raises(OSError, match=REFUSED), atomic_write(tmp_path / "link"):
            pass
        assert (tmp_path / "link").readlink() == Path(target)
    assert (tmp_path / "other").read_text() == "mine"
    assert not (tmp_path / "missing").exists()


def test_a_file_that_becomes_a_link_after_the_check_is_refused(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("missing")
    monkeypatch.setattr("refusion.files.check_no_link", lambda path: None)
    monkeypatch.setattr("refusion.files.check_regular", lambda path: None)
    with pytest.raises(OSError, match="symbolic link"):
        open_for_append(tmp_path / "link")
    assert not (tmp_path / "missing").exists()


def test_appending_to_a_pipe_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a pipe, expected a regular file"):
        open_for_append(tmp_path / "pipe")
    monkeypatch.setattr("refusion.files.check_regular", lambda path: None)
    with pytest.raises(OSError, match=r"pipe|No such device"):
        open_for_append(tmp_path / "pipe")


def test_the_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with atomic_write(path) as aside:
            aside.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_everybody_may_read_what_the_umask_lets_them(tmp_path):
    path = tmp_path / "a.txt"
    before = os.umask(0o022)
    try:
        with atomic_write(path) as aside:
            aside.write_text("x")
            aside.chmod(0o600)  # as some writers do
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def left_of(path):
    """What a process leaves that is killed while it writes the file."""
    with atomic_write(path) as aside:
        part = aside
    part.write_text("half")
    return part


def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path):
    path = tmp_path / ("n" * 255)
    with atomic_write(path) as aside:
        aside.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_killed_processes_left_is_removed(tmp_path):
    old, young, other = parts = [left_of(tmp_path / name) for name in ("[a]*", "[a]*", "b")]
    assert len(set(parts)) == 3
    for part in (old, other):
        os.utime(part, (time.time() - 3600,) * 2)
    with atomic_write(tmp_path / "[a]*") as aside:
        aside.write_text("whole")
    assert not old.exists() and young.exists() and other.exists()


def test_hash_is_that_of_the_file(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "w").write_bytes(content)
    assert sha256_of(tmp_path / "w") == hashlib.sha256(content).hexdigest()


def test_a_system_that_ignores_case_is_known_by_another_spelling(tmp_path, monkeypatch):
    folder = tmp_path / "Photos"
    (folder / "2024").mkdir(parents=True)
    places = (folder, folder / "2024", folder / "2024" / "new" / "x")
    assert not any(map(ignores_case, places))
    (tmp_path / "pHOTOS").symlink_to(folder)  # a link is another name, too
    assert not any(map(ignores_case, places))
    (tmp_path / "pHOTOS").unlink()
    (tmp_path / "pHOTOS").mkdir()
    assert not any(map(ignores_case, places))
    monkeypatch.setattr(Path, "samefile", lambda a, b: str(a).lower() == str(b).lower())
    assert all(map(ignores_case, places[:2]))
    assert not ignores_case(Path("/"))
    assert not ignores_case(tmp_path / ("x" * 300))


def test_a_file_in_a_folder_that_cannot_be_read_may_exist(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("nothing")
    assert may_exist(tmp_path) and may_exist(tmp_path / "link")
    (tmp_path / "file").touch()
    for name in ("missing", "missing/a.png", "file/a.png", "null\0", "x" * 300):
        assert not may_exist(tmp_path / name)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "lstat", refuse)
    assert may_exist(tmp_path / "a.png")
