"""`refusion schema` prints and writes the schema of the option files."""

import json

import pytest

from refusion import cli
from refusion.config.json_schema import json_schema


def test_prints_json(capsys):
    assert cli.main(["schema"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == json.loads(json.dumps(json_schema()))


def test_writes_a_file(tmp_path, capsys):
    target = tmp_path / "new" / "schema.json"
    assert cli.main(["schema", "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text(encoding="utf-8"))["title"] == "Option file of refusion"
    assert cli.main(["schema", "-o", str(target / "below.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("output", [".", "/", "new/"])
def test_a_folder_as_output_is_one_line(tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["schema", "-o", output]) == 2
    assert f"-o {output}: expected a file name, got a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
