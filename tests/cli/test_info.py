"""`refusion info`: facts of weights files, checked against the files themselves."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from refusion import cli
from refusion.checkpoint import read_checkpoint, save_checkpoint


@pytest.mark.parametrize("kind", ["latent", "pixel", "unet", "denoise", "stereo_sr"])
def test_facts_are_those_of_the_file(tiny_checkpoint, capsys, kind):
    path = tiny_checkpoint(kind)
    assert cli.main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    data = Path(path).read_bytes()
    assert facts["sha256"] == hashlib.sha256(data).hexdigest()
    assert facts["bytes"] == len(data)
    tensors = load_file(path)
    assert sum(facts["parameters"].values()) == sum(t.numel() for t in tensors.values())
    assert facts["stored"] == ["float32"]
    assert ("sde" in facts) == (kind != "unet")
    assert facts["task"] == read_checkpoint(path).model.task


def test_text_names_what_matters(capsys):
    assert cli.main(["info", "dehaze"]) == 0
    out = capsys.readouterr().out
    for words in ("task: dehaze", "type: NAFNetPair", "type: IRSDE", "sampler: posterior",
                  "stored: [\"float16\"]", "training:", "licence:", "sha256:"):  # fmt: skip
        assert words in out


def test_licence_is_shown_and_controls_are_not_obeyed(tiny_checkpoint, tmp_path, capsys):
    checkpoint = read_checkpoint(tiny_checkpoint())
    info = {"licence": "MIT", "note": "\x1b[2Jgone"}
    save_checkpoint(tmp_path / "a.safetensors", checkpoint.model, checkpoint.tensors, info)
    assert cli.main(["info", str(tmp_path / "a.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "licence: MIT\n" in out
    assert "\x1b" not in out


def test_what_is_no_weights_file_is_one_line(tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    for name in (tmp_path / "a.safetensors", tmp_path / "absent.safetensors", "nonsense"):
        assert cli.main(["info", str(name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_reader_that_leaves_is_no_fault():
    """As in `refusion info dehaze | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from refusion.cli import main; raise SystemExit(main())"]
    with os.fdopen(writer, "wb") as unread:
        done = subprocess.run(
            [*command, "info", "dehaze"], stdout=unread, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")
