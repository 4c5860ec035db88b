"""`refusion export`: its output and its errors."""

import sys

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_cases import MODELS, checkpoint_of

from refusion import cli
from refusion.runtime import load_model


def test_writes_the_file_and_shows_the_differences(tmp_path, capsys):
    path = checkpoint_of(tmp_path, MODELS["blind"]).path
    assert cli.main(["export", str(path), "-o", str(tmp_path / "model.onnx"), "--fp16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'model.onnx'}: network (photo -> output)"
    assert len(lines) == 4 and all("largest difference from PyTorch" in line for line in lines[1:])
    assert load_model(tmp_path / "model.onnx").task == "blind"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name one model"),
        (["dehaze", "--task", "dehaze"], "name one model"),
        (["--task", "dehaze", "-o", "x.png"], "ends in .onnx"),
        (["--task", "dehaze", "--fp16", "--link-weights"], "not allowed with"),
    ],
)
def test_wrong_usage(argv, message, capsys):
    output = [] if "-o" in argv else ["-o", "x.onnx"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["export", *argv, *output])
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_unknown_weights_are_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "refusion.export", None)  # the error comes before
    assert cli.main(["export", "dehase", "-o", "x.onnx"]) == 2
    assert "did you mean" in capsys.readouterr().err
