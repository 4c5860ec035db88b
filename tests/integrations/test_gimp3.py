"""The plug-in for GIMP 3 with stand-ins for GIMP's modules (it was run in GIMP 3.0.4)."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_gimp3
import pytest

FOLDER = Path(__file__).parents[2] / "integrations" / "gimp" / "refusion"


@pytest.fixture
def plug_in(monkeypatch):
    """The module `gimp3` and the fake `Gimp`."""
    gimp = fake_gimp3.install(monkeypatch)
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("gimp3", "restoration"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("gimp3")
    yield SimpleNamespace(module=module, gimp=gimp)
    for name in ("gimp3", "restoration"):
        sys.modules.pop(name, None)


@pytest.fixture
def call(plug_in, tmp_path, monkeypatch):
    """Runs the procedure on an image with one layer; returns (status, error)."""
    program = tmp_path / "refusion"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(tmp_path / 'log')!r}, 'w').write(repr(sys.argv[1:]))\n"
        "open(sys.argv[4], 'w').write('restored ' + open(sys.argv[5]).read())\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(image, drawables, mode=None, **values):
        values = {"task": "denoise", "strength": 60.0, "program": str(program)} | values
        config = SimpleNamespace(get_property=values.get)
        procedure = SimpleNamespace(new_return_values=lambda status, error: (status, error))
        mode = mode or plug_in.gimp.RunMode.NONINTERACTIVE
        return plug_in.module._run(procedure, mode, image, drawables, config, None)

    return run


def image_with_layer(**keywords):
    image, layer = fake_gimp3.Image(**keywords), fake_gimp3.Layer()
    image.layers.append(layer)
    return image, layer


def test_the_result_is_a_new_layer_and_one_step_of_undo(plug_in, call, tmp_path):
    image, layer = image_with_layer()
    status, error = call(image, [layer])
    assert (status, error) == (plug_in.gimp.PDBStatusType.SUCCESS, "")
    new, old = image.layers
    assert (new.name, new.offsets, old) == ("refusion denoise 60 %", (5, 7), layer)
    assert image.log == ["start", "insert", "end"]
    task, strength, _, target, source = eval((tmp_path / "log").read_text())
    assert (task, strength) == ("denoise", "--strength=60%")
    assert (Path(target).name, Path(source).name) == ("restored.tif", "layer.tif")
    assert not Path(target).parent.exists()
    copy = fake_gimp3.Image.last_copy
    assert copy.log == [("new", 4, 3, plug_in.gimp.Precision.U16_NON_LINEAR), "insert", "delete"]


@pytest.mark.parametrize("is_linear", [False, True])
def test_the_copy_has_the_profile_of_the_image_but_a_gamma(call, is_linear):
    profile = SimpleNamespace(
        is_linear=lambda: is_linear, new_srgb_trc_from_color_profile=lambda: "with gamma"
    )
    image, layer = image_with_layer(profile=profile)
    call(image, [layer])
    assert fake_gimp3.Image.last_copy.profile == ("with gamma" if is_linear else profile)


def test_errors_are_messages_and_change_nothing(plug_in, call):
    image, layer = image_with_layer()
    for drawables, values, message in [
        ([], {}, "choose one layer"),
        ([object()], {}, "choose one layer"),
        ([layer], {"program": None}, "no program"),
        ([layer], {"program": "/bin/false"}, "ended with code 1"),
        ([layer], {"strength": 200.0}, "0 to 100"),
    ]:
        status, error = call(image, drawables, **values)
        assert status == plug_in.gimp.PDBStatusType.EXECUTION_ERROR
        assert message in error
        assert image.layers == [layer]
    assert image.log == []


def test_cancel_in_the_dialogue_does_nothing(plug_in, call, monkeypatch):
    monkeypatch.setattr(plug_in.module, "_ask", lambda procedure, config: False)
    image, layer = image_with_layer()
    status, _ = call(image, [layer], plug_in.gimp.RunMode.INTERACTIVE)
    assert status == plug_in.gimp.PDBStatusType.CANCEL
    assert image.layers == [layer]


def test_the_dialogue_offers_every_task(plug_in):
    class_ = plug_in.module.Refusion
    procedure = class_.do_create_procedure(class_(), "plug-in-refusion")
    choice = plug_in.gimp.Choice.new()
    restoration = sys.modules["restoration"]
    assert [entry.args[0] for entry in choice.add.call_args_list] == list(restoration.TASKS)
    assert procedure.add_choice_argument.call_args.args[4] == "dehaze"
    assert procedure.add_double_argument.call_args.args[3:6] == (0, 100, 100.0)
    assert procedure.add_string_argument.call_args.args[3] == "refusion"
    assert class_().do_query_procedures() == ["plug-in-refusion"]
