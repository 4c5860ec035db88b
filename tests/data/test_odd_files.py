"""Odd files among the photos of a data set: one line, at once."""

import os
import socket

import numpy as np
import pytest
import tifffile
from PIL import Image

from refusion.config.parser import Component
from refusion.data import BokehFolder, PairedFolder, SyntheticPairs
from refusion.errors import ConfigError, ImageError
from refusion.images.cache import PhotoCache, list_photos, upright_size

HAZE = Component("Haze", {})


def save(path, size=(40, 24), **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **settings)


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


ODD = {
    "a pipe": make_pipe,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "No such file": lambda path: path.symlink_to("missing"),
    "Too many levels": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    save(tmp_path / "photos" / "a.png")
    ODD[kind](tmp_path / "photos" / "b.png")
    with pytest.raises(ConfigError, match=rf"folders: '.*b\.png': .*{kind}.*replace or remove"):
        SyntheticPairs(folders=[tmp_path / "photos"], degradation=HAZE, patch=16)
    with pytest.raises(ConfigError, match=rf"lq: '.*b\.png': .*{kind}"):
        PairedFolder(lq=tmp_path / "photos", gt=None)


def test_a_folder_that_contains_itself_is_read_once_and_logged(tmp_path, caplog):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert list_photos([tmp_path]) == [tmp_path / "a.png"]
    assert "linked folder" in caplog.text and "again' is not searched" in caplog.text


def test_the_folder_of_a_data_set_may_be_a_link_but_not_to_itself(tmp_path):
    save(tmp_path / "photos" / "a.png")
    (tmp_path / "link").symlink_to("photos")
    assert len(list_photos([tmp_path / "link"])) == 1
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="loop"):
        list_photos([tmp_path / "loop"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "not an image"),
        (lambda path: path.write_text("text"), "not an image"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "truncated header"),
        (lambda path: path.write_bytes(b"II*\0\xff\xff\xff\xff"), ""),
        (lambda path: save(path, size=(16, 15), format="PNG"), "smaller than the patch"),
        (lambda path: save(path, size=(1, 1), format="PNG"), "smaller than the patch"),
    ],
)
def test_photos_that_cannot_be_cropped_are_named(tmp_path, make, message):
    save(tmp_path / "a.png")
    make(tmp_path / "b.png")
    with pytest.raises((ConfigError, ImageError), match=rf"b\.png.*{message}"):
        SyntheticPairs(folders=[tmp_path], degradation=HAZE, patch=16, scale_range=None)


def test_photos_of_other_sizes_depths_and_with_alpha(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (24, 40, 3)).astype(np.uint16)
    (tmp_path / "lq").mkdir()
    tifffile.imwrite(tmp_path / "lq" / "a.tif", deep, photometric="rgb")
    save(tmp_path / "gt" / "a.png")
    Image.new("RGBA", (40, 24), (10, 20, 30, 40)).save(tmp_path / "gt" / "b.png")
    save(tmp_path / "lq" / "b.jpg")
    pairs = PairedFolder(lq=tmp_path / "lq", gt=tmp_path / "gt", patch=16, cache=tmp_path / "cache")
    for index in range(4):
        sample = pairs[index]
        assert sample["lq"].shape == sample["gt"].shape == (3, 16, 16)
    save(tmp_path / "gt" / "b.png", size=(41, 24))
    with pytest.raises(ConfigError, match=r"b\.jpg' is 40x24 but '.*b\.png' 41x24"):
        PairedFolder(lq=tmp_path / "lq", gt=tmp_path / "gt", patch=16)


@pytest.mark.parametrize(
    ("code", "value", "size"),
    [("H", 6, (24, 40)), ("H", 99, (40, 24)), ("h", -3, (40, 24)), ("s", "text", (40, 24))],
)
def test_a_wrong_orientation_is_none(tmp_path, code, value, size):
    count = len(value) + 1 if code == "s" else 1
    tags = [(0x0112, code, count, value, True)]
    pixels = np.zeros((24, 40, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=tags)
    assert upright_size(tmp_path / "a.tif") == size
    loaded = PhotoCache(tmp_path / "cache").load(tmp_path / "a.tif", 100)
    assert loaded.shape[1::-1] == size


def make_huge(path):
    path.touch()
    os.truncate(path, 2**31)


META = "0, Sony50mmf1.8BS, Sony50mmf16.0BS, 35\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_pipe, "is a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"\xff\xfe0\0"), "decode"),
        (make_huge, "more than 64 MB"),
        (lambda path: path.write_text(META + "x" * 10**6), r"line 2: expected .*xxx \.\.\. xxx"),
        (lambda path: path.write_text(META.replace("35", "1e999")), "expected a number"),
    ],
)
def test_a_list_of_lenses_of_another_kind_is_one_line(tmp_path, make, message):
    for end in ("src", "tgt"):
        save(tmp_path / f"0.{end}.png")
    (tmp_path / "meta.txt").write_text(META)
    assert len(BokehFolder(folder=tmp_path)) == 1
    (tmp_path / "meta.txt").unlink()
    make(tmp_path / "meta.txt")
    with pytest.raises(ConfigError, match=message) as caught:
        BokehFolder(folder=tmp_path)
    assert "meta.txt" in str(caught.value) and len(str(caught.value)) < 800


def test_an_entry_of_the_cache_that_is_a_pipe_is_refused(tmp_path):
    save(tmp_path / "a.png")
    cache = PhotoCache(tmp_path / "cache")
    entry = cache._entry(tmp_path / "a.png", 100)
    entry.parent.mkdir()
    os.mkfifo(entry)
    with pytest.raises(ConfigError, match=r"cache: cannot write .* is a pipe"):
        cache.load(tmp_path / "a.png", 100)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError("3 of 9 written")]
)
def test_a_cache_on_a_full_disk_is_one_line(tmp_path, monkeypatch, error):
    def full(file, pixels):
        raise error

    save(tmp_path / "a.png")
    monkeypatch.setattr("refusion.images.cache.np.save", full)
    with pytest.raises(ConfigError, match=r"cache: cannot write to '.*': (No space|3 of 9)"):
        PhotoCache(tmp_path / "cache").load(tmp_path / "a.png", 100)
    assert not list((tmp_path / "cache").iterdir())
