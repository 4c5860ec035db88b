"""Pipes, sockets, devices, folders and links to themselves: no option reads or replaces them."""

import importlib
import os
import socket
import stat
import threading
import zipfile
from pathlib import Path

import pytest
from cli_cases import make

from refusion import cli
from refusion.batch.prompts import PromptFiles
from refusion.errors import CheckpointError, ImageError
from refusion.optics.disparity import read_disparity
from refusion.stable_diffusion.folder import load_network
from refusion.stable_diffusion.libraries import read_json

resource = pytest.importorskip("resource", reason="Windows has no such files")

SECONDS = 20
KINDS = ("pipe", "socket", "device", "folder", "loop")
SOME = [kind if kind in ("pipe", "device") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS]  # fmt: skip
PHOTOS = ["--input", "a.png"]
TINY = ["--weights", "tiny.safetensors", "--device", "cpu"]
SETS = ["--lq", "lq", "--gt", "gt", *TINY, "--output", "out"]
SD = ["restore", *PHOTOS, "--device", "cpu", "--method"]
BOKEH = ["restore", *PHOTOS, *TINY, "--from", "Sony50mmf1.8BS", "--to", "Canon50mmf1.4BS"]
# Name of the file, and a command that would read the file {}.
READ = {
    ("restore", "--input"): ("x.png", ["restore", *TINY, "--input", "{}"]),
    ("restore", "--weights"): ("x.safetensors", ["restore", *PHOTOS, "--weights", "{}"]),
    ("restore", "--mask"): (
        "x.png",
        ["restore", *PHOTOS, "--method", "ddrm", "--task", "inpaint", "--mask", "{}"],
    ),
    ("restore", "--kernel"): (
        "x.png",
        ["restore", *PHOTOS, "--method", "ddrm", "--task", "deblur", "--kernel", "{}"],
    ),
    ("restore", "--sd"): (
        "x",
        [*SD, "diffbir", "--control", "x.pth", "--stage1", "none", "--sd", "{}"],
    ),
    ("restore", "--lora"): ("x.pkl", [*SD, "osediff", "--sd", "sd", "--lora", "{}"]),
    ("restore", "--stage1"): (
        "x.safetensors",
        [*SD, "diffbir", "--sd", "sd", "--control", "x.pth", "--stage1", "{}"],
    ),
    ("train", "--opt"): ("x.yml", ["train", "--opt", "{}"]),
    ("test", "--opt"): ("x.yml", ["test", "--opt", "{}"]),
    ("test", "--lq"): ("x", ["test", *TINY, "--lq", "{}"]),
    ("test", "--gt"): ("x", ["test", *TINY, "--lq", "lq", "--gt", "{}"]),
    ("test", "--data"): ("x", ["test", *TINY, "--data", "a={}"]),
    ("test", "--beside"): (
        "x",
        ["test", *SETS, "--html", "o.html", "--beside", "a={}"],
    ),
    ("test", "--weights"): ("x.safetensors", ["test", "--lq", "lq", "--weights", "{}"]),
    ("test", "--lpips"): ("x.pth", ["test", *SETS, "--lpips", "{}", "{}"]),
    ("test", "--dists"): ("x.pth", ["test", *SETS, "--dists", "{}", "{}"]),
    ("test", "--niqe"): ("x.npz", ["test", *SETS, "--niqe", "{}"]),
    ("test", "--fid"): ("x.pth", ["test", *SETS, "--fid", "{}"]),
    ("import", "--net"): ("x.pth", ["import", "--net", "{}", "-o", "o.safetensors"]),
    ("import", "--latent"): ("x.pth", ["import", "--latent", "{}", "-o", "o.safetensors"]),
    ("import", "--adm"): ("x.pt", ["import", "--adm", "{}", "-o", "o.safetensors"]),
    ("import", "--options"): (
        "x.yml",
        ["import", "--net", "n.pth", "--options", "{}", "-o", "o.safetensors"],
    ),
    ("import-sd", "--like"): ("x", ["import-sd", "n.safetensors", "--like", "{}", "-o", "o"]),
    ("info", "file"): ("x.safetensors", ["info", "{}"]),
    ("export", "model"): ("x.safetensors", ["export", "{}", "-o", "o.onnx"]),
    ("average", "files"): (
        "x.safetensors",
        ["average", "tiny.safetensors", "{}", "--output", "o.safetensors"],
    ),
    ("check-submission", "archive"): (
        "x.zip",
        ["check-submission", "{}", "--inputs", "lq", "--track", "dehaze"],
    ),
    ("check-submission", "--inputs"): (
        "x",
        ["check-submission", "a.zip", "--inputs", "{}", "--track", "dehaze"],
    ),
}
# Name of the file, and a command that would write the file or the folder {}.
WRITTEN = {
    ("restore", "--output"): ("x.png", ["restore", *PHOTOS, *TINY, "--output", "{}"]),
    ("restore", "--uncertainty"): (
        "x.png",
        ["restore", *PHOTOS, *TINY, "--samples", "2", "--uncertainty", "{}"],
    ),
    ("restore", "--haze-map"): (
        "x.png",
        ["restore", *PHOTOS, "--weights", "haze.safetensors", *TINY[2:], "--haze-map", "{}"],
    ),
    ("restore", "--log-file"): ("x.json", ["restore", *PHOTOS, *TINY, "--log-file", "{}"]),
    ("init", "--output"): ("x.yml", ["init", "toy", "--force", "-o", "{}"]),
    ("schema", "--output"): ("x.json", ["schema", "-o", "{}"]),
    ("test", "--output"): ("x", ["test", "--lq", "lq", *TINY, "--output", "{}"]),
    ("test", "--json"): ("x.json", ["test", *SETS, "--json", "{}"]),
    ("test", "--csv"): ("x.csv", ["test", *SETS, "--csv", "{}"]),
    ("test", "--html"): ("x.html", ["test", *SETS, "--html", "{}"]),
    ("test", "--submit"): (
        "x.zip",
        ["test", *SETS, "--track", "dehaze", "--description", "d", "--submit", "{}"],
    ),
    ("average", "--output"): (
        "x.safetensors",
        ["average", "tiny.safetensors", "tiny.safetensors", "--output", "{}"],
    ),
}
# Tested elsewhere, because they need a larger setup.
OTHERS = {
    ("restore", "--disparity"): "test_a_disparity_map_is_a_regular_file",
    ("restore", "--prompts"): "test_a_prompt_is_a_regular_file",
    ("app", "--weights"): "read as restore --weights; tests/app",
    ("restore", "--control"): "read by read_published, as import --net",
    ("import-sd", "--output"): "a folder, for several files",
    ("import-sd", "checkpoint"): "read by read_published, as import --net",
    ("test", "--disparity"): "takes a number only",
    ("train", "--runs"): "a folder; tests/training",
    ("train", "--export"): "written as average --output",
    ("test", "--runs"): "a folder; its model is read as --weights",
    ("import", "--output"): "written as average --output",
    ("export", "--output"): "written as average --output",
}


def file_options():
    """Options and arguments of all commands that name files or folders, by their parsers."""
    for command in cli.COMMANDS:
        module = importlib.import_module(cli.MODULES.get(command, f"refusion.cli.{command}"))
        for action in module.build_parser()._actions:
            shown = str(action.metavar)
            words = ("FILE", "DIR", "ZIP", "LQ", "WEIGHTS", "INCEPTION", "LIN")
            if action.type is Path or any(word in shown for word in words):
                yield command, max(action.option_strings, key=_is_long, default=action.dest)


def _is_long(option):
    return option.startswith("--"), -len(option) if option == "--out" else len(option)


def test_every_option_that_names_a_file_is_tested():
    assert set(file_options()) == {*READ, *WRITTEN, *OTHERS}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_checkpoint):
    """Folder with a special file of each kind and name, and good files beside them."""
    folder = tmp_path_factory.mktemp("special")
    sockets = []
    (folder / "prompts").mkdir()
    for kind in KINDS:
        (folder / f"prompts/{kind}.txt").symlink_to(f"../{kind}_x.png")
    for name in {name for name, _ in (*READ.values(), *WRITTEN.values())}:
        os.mkfifo(folder / f"pipe_{name}")
        (folder / f"device_{name}").symlink_to("/dev/zero")
        (folder / f"folder_{name}").mkdir()
        (folder / f"loop_{name}").symlink_to(f"loop_{name}")
        sockets.append(socket.socket(socket.AF_UNIX))
        before = Path.cwd()
        os.chdir(folder)  # an address has at most 107 bytes
        sockets[-1].bind(f"socket_{name}")
        os.chdir(before)
    for name in ("a.png", "lq/1.png", "gt/1.png"):
        make(folder / name)
    for name, kind in {"tiny": "latent", "haze": "haze"}.items():
        content = Path(tiny_checkpoint(kind)).read_bytes()
        (folder / f"{name}.safetensors").write_bytes(content)
    (folder / "sd").mkdir()
    (folder / "x.pkl").touch()
    with zipfile.ZipFile(folder / "a.zip", "w"):
        pass
    yield folder
    for one in sockets:
        one.close()


@pytest.fixture
def watched(place, monkeypatch):
    """End a read that waits, by the end of the pipe, and one without end, by the memory."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, before[1]))
    waited, done = [], threading.Event()

    def end_of_pipes():
        while not done.wait(SECONDS):
            waited.append(True)
            for pipe in place.glob("pipe_*"):
                with_reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
                os.close(with_reader)

    watcher = threading.Thread(target=end_of_pipes, daemon=True)
    watcher.start()
    yield waited
    done.set()
    watcher.join()
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused(argv, path, capsys, waited):
    """The command refuses the file in one line, without a wait."""
    try:
        code = cli.main([word.replace("{}", path) for word in argv])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    told = [line for line in (out + err).splitlines() if path in line]
    assert not waited
    assert code in (1, 2), err
    assert told, err
    assert "internal error" not in err
    assert "not enough memory" not in err
    assert len(err.splitlines()) <= 4
    return err


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the size of the process")
@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("option", READ, ids=" ".join)
def test_only_regular_files_are_read(option, kind, watched, capsys):
    name, argv = READ[option]
    if kind == "folder" and option in FOLDERS:
        pytest.skip("a folder is what the option expects")
    refused(argv, f"{kind}_{name}", capsys, watched)


FOLDERS = {
    ("restore", "--input"), ("restore", "--sd"), ("test", "--lq"), ("test", "--gt"),
    ("test", "--data"), ("import-sd", "--like"), ("check-submission", "--inputs"),
    ("restore", "--output"), ("restore", "--uncertainty"), ("restore", "--haze-map"),
    ("test", "--output"),
}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the size of the process")
@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("option", WRITTEN, ids=" ".join)
def test_only_regular_files_are_replaced(option, kind, watched, capsys):
    name, argv = WRITTEN[option]
    if kind == "folder" and option in FOLDERS:
        pytest.skip("a folder is what the option expects")
    path = Path(f"{kind}_{name}")
    before = path.lstat()
    refused(argv, str(path), capsys, watched)
    after = path.lstat()
    assert (before.st_ino, stat.S_IFMT(before.st_mode)) == (
        after.st_ino,
        stat.S_IFMT(after.st_mode),
    )
    assert not list(Path().glob(".refusion-*"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_disparity_map_is_a_regular_file(kind, watched):
    path = Path(f"{kind}_x.png")
    with pytest.raises(ImageError, match=path.name):
        read_disparity(path)
    assert not watched


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_a_regular_file(kind, watched):
    with pytest.raises(ImageError, match=f"prompts/{kind}.txt cannot be read"):
        PromptFiles(Path("prompts")).of(Path(f"{kind}.png"))
    assert not watched


@pytest.mark.parametrize("kind", KINDS[:3])
def test_files_inside_the_folder_of_a_model_are_regular(kind, watched):
    """Those that this package reads, and those that libraries open by themselves."""
    folder = Path(f"model_{kind}")
    folder.mkdir()
    Path(f"{kind}_x.yml").rename(folder / "config.json")
    with pytest.raises(CheckpointError, match="expected a regular file"):
        read_json(folder / "config.json")
    with pytest.raises(CheckpointError, match="expected a regular file; copy the folder again"):
        load_network(folder, None)
    assert not watched
