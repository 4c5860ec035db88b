"""Engines: the choice of one, its errors; and descriptions, which are read without an engine."""

import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.engines import EXAMPLE, photo_for
from refusion.cli import lite
from refusion.errors import CheckpointError, ConfigError, RefusionError
from refusion.runtime import description, engines, find_model, load_model
from refusion.runtime.description import read_description

TASKS = ("dehaze", "deshadow", "denoise", "blind")
TEXT = b'{"format": 1, "runtime": {"task": "x"}}'


def varint(value):
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def field(number, content):
    return varint(number * 8 + 2) + varint(len(content)) + content


def text(key, value):
    return field(14, field(1, key) + field(2, value))


GRAPH = field(7, b"\x0a\x00" * 300)
NUMBER, EIGHT, FOUR = b"\x08\x0a", b"\x69" + bytes(8), b"\x6d" + bytes(4)  # of other fields


@pytest.fixture
def read(tmp_path):
    def of(content):
        (tmp_path / "m.onnx").write_bytes(content)
        return read_description(tmp_path / "m.onnx")

    return of


@pytest.mark.parametrize("task", TASKS)
def test_description_is_that_of_the_package_onnx(task):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(find_model(task), load_external_data=False)
    texts = {each.key: each.value for each in model.metadata_props}
    found = read_description(find_model(task))
    assert found == description.json.loads(texts["refusion"])
    assert found["runtime"]["task"] == task


def test_description_is_found_at_any_place(read):
    wanted, other = text(b"refusion", TEXT), text(b"task", b"dehaze")
    turned = field(14, field(2, TEXT) + NUMBER + field(1, b"refusion"))
    for content in (GRAPH + wanted, wanted + GRAPH, GRAPH + other + wanted + other, GRAPH + turned):
        assert read(NUMBER + EIGHT + content + FOUR)["runtime"] == {"task": "x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or of another kind"),
        (b"no model", "damaged or of another kind"),
        (text(b"refusion", TEXT), "damaged or of another kind"),  # no graph
        (GRAPH[:-1], "damaged or of another kind"),
        (GRAPH + field(14, b"\x0a\x7fx"), "damaged or of another kind"),
        (GRAPH + b"\x80" * 20, "damaged or of another kind"),
        (GRAPH + NUMBER * 10_000, "damaged or of another kind"),
        (GRAPH, "not written by 'refusion export'"),
        (GRAPH + text(b"refusio", TEXT), "not written by 'refusion export'"),
        (GRAPH + text(b"refusion", b"\xff"), "another format"),
        (GRAPH + text(b"refusion", b"[" * 100_000), "another format"),
        (GRAPH + text(b"refusion", b'{"format": 2}'), "another format"),
        (GRAPH + field(14, field(1, b"refusion")), "not written by 'refusion export'"),
    ],
    ids=range(13),
)
def test_files_without_a_description_are_refused(read, content, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


@given(st.data())
def test_damage_gives_a_description_or_one_error(tmp_path_factory, data):
    content = bytearray(NUMBER + GRAPH + text(b"refusion", TEXT) + FOUR)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_description(path)["format"] == 1
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ")


def test_long_texts_are_not_read(read, monkeypatch):
    monkeypatch.setattr(description, "_LARGEST_TEXT", 30)
    with pytest.raises(CheckpointError, match="not written by"):
        read(GRAPH + text(b"refusion", TEXT))


@pytest.mark.parametrize(
    ("installed", "name", "expected"),
    [
        ({"onnxruntime", "openvino"}, "auto", "onnxruntime"),
        ({"openvino"}, "auto", "openvino"),
        ({"onnxruntime", "openvino"}, "openvino", "openvino"),
    ],
)
def test_choice_of_the_engine(monkeypatch, installed, name, expected):
    monkeypatch.setattr(engines, "is_installed", installed.__contains__)
    assert engines.choose_engine(name) == expected


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("auto", "onnxruntime", "onnx"),
        ("onnxruntime", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_missing_package_is_named_with_its_command(monkeypatch, name, package, extra):
    monkeypatch.setattr(engines, "is_installed", lambda package: False)
    with pytest.raises(RefusionError) as caught:
        load_model("dehaze", engine=name)
    wanted = f"the package {package} is missing; install it with: pip install 'refusion[{extra}]'"
    assert str(caught.value) == wanted


def test_unknown_engine():
    with pytest.raises(ConfigError, match="unknown engine 'openvin'; did you mean 'openvino'"):
        load_model("dehaze", engine="openvin")
    assert ("auto", *engines.ENGINES) == lite.ENGINES


def test_old_versions_of_openvino_are_refused(monkeypatch):
    package, frontend = (types.ModuleType(name) for name in ("openvino", "openvino.frontend"))
    package.__version__, frontend.FrontEndManager = "2025.4.1-20426-82bbf0292c5", None
    monkeypatch.setitem(sys.modules, "openvino", package)
    monkeypatch.setitem(sys.modules, "openvino.frontend", frontend)
    monkeypatch.setattr(engines, "is_installed", lambda package: True)
    with pytest.raises(RefusionError, match=r"openvino 2025\.4\.1.*pip install --upgrade"):
        load_model("dehaze", engine="openvino")


def engine_or_skip(name):
    pytest.importorskip(name)
    return name


@pytest.mark.parametrize("name", engines.ENGINES)
def test_missing_weights_give_one_line(tmp_path, name):
    path = tmp_path / "dehaze.onnx"
    path.write_bytes(find_model("dehaze").read_bytes())
    with pytest.raises(CheckpointError, match="keep the weights file that it names") as caught:
        load_model(path, engine=engine_or_skip(name))
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be loaded as an ONNX file by {name} (")
    assert "dehaze.safetensors" in message and "\n" not in message and ".cpp" not in message[:250]


@pytest.mark.parametrize("name", engines.ENGINES)
def test_damaged_graph_gives_one_line(tmp_path, name):
    path = tmp_path / "m.onnx"
    content = find_model("blind").read_bytes()
    path.write_bytes(content.replace(b"Conv", b"Conw"))
    path.with_name("blind.safetensors").symlink_to(find_model("blind").with_suffix(".safetensors"))
    with pytest.raises(CheckpointError, match="cannot be loaded") as caught:
        load_model(path, engine=engine_or_skip(name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_engines_give_the_same_picture(task):
    names = [engine_or_skip(name) for name in engines.ENGINES]
    first, second = (load_model(task, engine=name, threads=1) for name in names)
    photo = photo_for(task, EXAMPLE, 300, 220)
    found = [model(photo).astype(int) for model in (first, second)]
    assert np.abs(found[0] - found[1]).max() <= 1
    assert np.abs(found[0] - photo).max() > 3, "the model changes nothing, so this shows nothing"
    assert np.array_equal(second(photo), found[1])
    assert np.array_equal(load_model(task, engine=names[1], threads=2)(photo), found[1])


@pytest.mark.parametrize("name", engines.ENGINES)
def test_outputs_that_the_graph_does_not_have_are_an_error(name, tmp_path):
    model = load_model("blind", engine=engine_or_skip(name))
    with pytest.raises(RefusionError, match="the ONNX model failed"):
        model._run(["tau"], {"photo": np.zeros((3, 16, 16), np.float32)})
    with pytest.raises(RefusionError, match="the ONNX model failed"):
        model._run(["output"], {"photo": np.zeros((4, 16, 16), np.float32)})


def test_command_line(tmp_path, capsys, monkeypatch):
    Image.fromarray(photo_for("denoise", EXAMPLE, 90, 70)).save(tmp_path / "a.png")
    argv = ["denoise", str(tmp_path / "a.png"), "--output", str(tmp_path), "--suffix=-new"]
    with monkeypatch.context() as patched:
        patched.setattr(engines, "is_installed", lambda package: False)
        assert lite.main([*argv, "--engine", "openvino"]) == 2
        error = capsys.readouterr().err
        assert "the package openvino is missing" in error and error.count("\n") == 1
        assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
    for name in engines.ENGINES:
        command = [*argv, "--engine", engine_or_skip(name), "--overwrite", "always"]
        assert lite.main(command) == 0
        assert np.asarray(Image.open(tmp_path / "a-new.png")).shape == (70, 90, 3)


def test_description_needs_no_engine():
    program = (
        "import sys; sys.modules.update(onnxruntime=None, openvino=None, torch=None, onnx=None)\n"
        "from refusion.runtime import find_model\n"
        "from refusion.runtime.description import read_description\n"
        "print(read_description(find_model('denoise'))['runtime']['task'])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.strip() == b"denoise"
