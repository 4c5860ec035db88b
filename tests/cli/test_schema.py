"""`refusion schema` prints and writes the schema of the option files."""

import json

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
    assert cli.main(["schema", "-o", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err
