"""Files of PyTorch come from anywhere: sizes are compared before memory is used."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pickle_cases import FOUR, IS_REFUSED, call, mapping, numpy_scalar, text, whole, write

from refusion.errors import CheckpointError
from refusion.metrics.weights import read_weights
from refusion.official.weights import read_official
from refusion.restorers.osediff.weights import read_osediff
from refusion.tensor_files.pickles import MAX_FILE, load_pickle


def refusal(path: Path, read=read_official) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) - len(str(path)) < 280
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", IS_REFUSED)
def test_what_no_file_of_weights_needs_is_refused(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    content, message = IS_REFUSED[name]
    if name not in ("nested tuples", "tuple as key"):
        content = mapping((text("a"), content))
    assert message in refusal(write(tmp_path / "a.pth", content))
    if name not in ("count", "bytes", "view", "offset", "shape"):
        assert message in refusal(write(tmp_path / "old.pth", content, is_old=True))
    assert not (tmp_path / "made").exists()


def test_refused_files_take_no_memory(tmp_path: Path):
    """The address space is limited to 3 GB; each file would take more if it were read."""
    for name in ("bytearray", "storage", "tensor of a size", "void", "count", "view"):
        write(tmp_path / f"{name}.pth", mapping((text("a"), IS_REFUSED[name][0])))
    compressed(tmp_path / "zip.pth", {"a": torch.zeros(2 * 10**8)})
    code = (
        "import sys, pathlib, resource\n"
        "from refusion.errors import CheckpointError\n"
        "from refusion.official.weights import read_official\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: read_official(path)\n"
        "    except CheckpointError: pass\n"
        "    else: raise SystemExit(f'{path} was read')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    kib = int(subprocess.run(run, check=True, capture_output=True, timeout=120).stdout)
    assert kib < 100 * 1024
    assert resource.RUSAGE_SELF == 0  # the unit is KiB on Linux


def compressed(path: Path, state: object) -> Path:
    """A file of PyTorch whose entries are compressed, which PyTorch reads, too."""
    torch.save(state, path)
    with zipfile.ZipFile(path) as old:
        entries = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in entries.items():
            new.writestr(name, content)
    return path


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path: Path):
    path = compressed(tmp_path / "a.pth", {"a": torch.zeros(2 * 10**7)})
    assert path.stat().st_size < 10**6
    assert "an archive of" in (message := refusal(path))
    assert "that unpacks to 800" in message
    assert "not a weights file of PyTorch: is an archive" in refusal(
        path, lambda path: read_weights(path, "the file")
    )


def test_a_small_compressed_archive_is_read(tmp_path: Path):
    values = torch.arange(10**5) % 2  # the archive has a hundredth of the bytes
    assert torch.equal(read_official(compressed(tmp_path / "a.pth", {"a": values}))["a"], values)


def test_archives_without_one_pickle_are_refused(tmp_path: Path):
    path = write(tmp_path / "a.pth", mapping((text("a"), FOUR)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b/data.pkl", b"")
    assert "an archive without the file data.pkl" in refusal(path)
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "an archive without the file data.pkl" in refusal(tmp_path / "b.pth")


def test_archives_with_a_second_directory_are_refused(tmp_path: Path):
    """Python's reader takes the directory before the end, and PyTorch's the one at an offset."""
    path = write(tmp_path / "a.pth", mapping((text("a"), FOUR)))
    content, end = path.read_bytes()[:-22], path.read_bytes()[-22:]
    length, start = struct.unpack("<LL", end[12:20])
    directory = content[start:]
    (path := tmp_path / "b.pth").write_bytes(content + directory + end)
    assert "is refused: its directory is not at the end" in refusal(path)
    (path := tmp_path / "c.pth").write_bytes(content + end[:-2] + b"\x03\0abc")
    assert "is damaged or truncated (BadZipFile: the end of the" in refusal(path)
    (path := tmp_path / "d.pth").write_bytes(content + end[:-2] + b"\x16\0" + end[:-2] + b"\1\0")
    assert "is refused: the archive has a comment" in refusal(path)
    far = struct.pack("<4sLQL", b"PK\6\7", 0, start, 1)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, length, start)
    near = far.replace(struct.pack("<Q", start), struct.pack("<Q", len(content)))
    (path := tmp_path / "e.pth").write_bytes(content + record + far + end)
    assert "is refused: its directory is not at the end" in refusal(path)
    (path := tmp_path / "f.pth").write_bytes(content + record + near + end)
    assert read_official(path).keys() == {"a"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a/data/0", "a/DATA/0"])
def test_archives_with_two_entries_of_one_name_are_refused(tmp_path: Path, name: str):
    path = write(tmp_path / "a.pth", mapping((text("a"), FOUR)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, bytes(64))
    assert "is refused: it has two entries of one name" in refusal(path)


def test_one_tensor_under_many_names_is_refused(tmp_path: Path, monkeypatch):
    """The check of its values would take a minute for each megabyte of the file."""
    monkeypatch.setattr("refusion.official.weights._SMALL", 1000)
    names = b"".join(text(f"a{n}") + b"h\0" for n in range(200))
    shared = b"}(" + text("a") + FOUR + b"q\0" + names + b"u"
    path = write(tmp_path / "a.pth", shared)
    assert "its 201 tensors are views of the same data, in all 3216 bytes" in refusal(path)
    tied = torch.ones(1000)
    torch.save({"a": tied, "b": tied, "c": torch.ones(1000)}, path)
    assert len(read_official(path)) == 3
    state = {f"x{n}": tied for n in range(200)}
    torch.save({"state_dict_unet": state, "state_dict_vae": {"y": tied}}, path)
    assert "its 201 tensors are views of the same data" in refusal(path, read_osediff)


@pytest.mark.parametrize(("make", "word"), [(os.mkfifo, "pipe"), (os.mkdir, "folder")])
def test_adapters_are_read_from_a_file_only(tmp_path: Path, make, word: str):
    make(tmp_path / "a.pkl")
    assert f"is a {word}, expected" in refusal(tmp_path / "a.pkl", read_osediff)


def test_archives_of_too_many_entries_are_refused(tmp_path: Path, monkeypatch):
    path = write(tmp_path / "a.pth", mapping((text("a"), FOUR)))
    assert read_official(path).keys() == {"a"}
    monkeypatch.setattr("refusion.tensor_files.pickles._MOST_ENTRIES", 3)
    assert "unpacks to" in (message := refusal(path)) and "in 4 entries" in message


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path):
    path = tmp_path / "a.pth"
    with path.open("wb") as file:
        file.write(b"\x80\x02")
        file.truncate(MAX_FILE + 1)  # a hole in the file takes no space on the disk
    assert f"is {MAX_FILE + 1} bytes long" in refusal(path)


def test_the_data_of_an_old_file_is_compared_with_its_size(tmp_path: Path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.randn(1000)}, path, _use_new_zipfile_serialization=False)
    assert read_official(path)["a"].shape == (1000,)
    path.write_bytes(path.read_bytes().replace(b"M\xe8\x03", b"J\0\0\0\x70"))
    assert "its tensors claim more values than it holds" in refusal(path)


def test_numbers_of_numpy_are_read(tmp_path: Path):
    numbers = {
        name: np.dtype(name).type(1)
        for name in ("bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "float64")
    }
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"a": torch.ones(3)}, **numbers}, path)
    assert read_official(path).keys() == {"a"}
    found = load_pickle(path)
    for name, value in numbers.items():
        assert type(found[name]) is type(value)
        assert found[name] == value


def test_numbers_of_numpy_by_their_old_names_are_read(tmp_path: Path):
    number = numpy_scalar("f8", call("_codecs.encode", text("\0" * 8), text("latin1")))
    content = mapping((text("params"), mapping((text("a"), FOUR))), (text("iter"), number))
    found = load_pickle(write(tmp_path / "a.pth", content))
    assert found["iter"] == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"}q\0" + text("params") + b"h\0s", "holds dictionaries in each other, more than 10"),
        (b"}q\0" + text("a") + b"h\0s", "'a' is a dict, expected tensors by name only"),
        ((b"}" + text("params")) * 10**4 + b"}" + b"s" * 10**4, "holds dictionaries in each other"),
        (b"]q\0h\0a", "holds a list, expected tensors by name"),
        (mapping((text("module." * 3000 + "a"), FOUR)), "holds a tensor with the name 'module.mod"),
        (mapping((whole(1), FOUR)), "holds a tensor with the name 1, expected a text"),
        (mapping((b"N", FOUR)), "holds a tensor with the name None, expected a text"),
        (mapping((text("module.a"), FOUR), (text("a"), FOUR)), "holds two tensors with one name"),
        (mapping((text("\x1b[31m\na"), b"N")), "'\\x1b[31m\\na' is a NoneType"),
        (b"}", "holds no tensors"),
        (mapping((text("ema_model.a"), b"K\x01"), (whole(3), FOUR)), "'a' is a int, expected"),
    ],
    ids=range(11),
)
def test_odd_dictionaries(tmp_path: Path, content: bytes, message: str):
    assert refusal(write(tmp_path / "a.pth", content)).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "is not stored densely"),
        (lambda: torch.eye(3).to_sparse_csr(), "is not stored densely"),
        (lambda: torch.zeros(3, dtype=torch.complex64), "is stored as torch.complex64"),
        (lambda: torch.zeros(3, device="meta"), "has a shape but no values"),
        (
            lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
            "is not stored densely",
        ),
        (lambda: torch.tensor([float("inf")]), "holds NaN or infinity"),
    ],
    ids=range(6),
)
@pytest.mark.filterwarnings("ignore")
def test_odd_tensors(tmp_path: Path, make: Callable[[], torch.Tensor], message: str):
    path = tmp_path / "a.pth"
    torch.save({"a": make()}, path)
    assert message in refusal(path)


def test_prefixes_are_removed_only_in_front(tmp_path: Path):
    path = tmp_path / "a.pth"
    torch.save({"module._orig_mod.module.a.module.b": torch.ones(1)}, path)
    assert list(read_official(path)) == ["a.module.b"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / name)
    for read in (read_official, lambda path: read_weights(path, "the file")):
        assert "is a pipe, expected a regular file" in refusal(tmp_path / name, read)


def test_a_missing_file_and_a_folder(tmp_path: Path):
    assert refusal(tmp_path / "a.pth") == "no such weights file"
    assert refusal(tmp_path / "a.safetensors") == "no such weights file"
    assert "is a folder" in refusal(tmp_path)
