"""`refusion init` writes option files and overwrites none."""

import os

import pytest
import yaml
from options_cases import FILES, OPTIONS

from refusion import cli
from refusion.cli.init import SCHEMA_FILE
from refusion.config import load_config


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_the_file_with_its_comments_and_names_the_next_step(folder, capsys):
    assert cli.main(["init", "deshadow"]) == 0
    assert (folder / "deshadow.yml").read_bytes() == (OPTIONS / "deshadow.yml").read_bytes()
    assert "refusion train -opt deshadow.yml\n" in capsys.readouterr().out
    assert load_config(folder / "deshadow.yml").name == "deshadow"


def test_output_may_be_elsewhere_and_have_spaces(folder, capsys):
    assert cli.main(["init", "toy.yml", "-o", "my runs/first.yml"]) == 0
    written = folder / "my runs" / "first.yml"
    assert load_config(written).name == "first"  # so that runs/toy stays as it is
    assert "runs/toy" not in written.read_text()
    assert "-opt my runs/first.yml" in written.read_text() and "toy.yml" not in written.read_text()
    assert "refusion train -opt 'my runs/first.yml'" in capsys.readouterr().out


def test_lists_the_files(folder, capsys):
    assert cli.main(["init"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in FILES]
    assert any(line.startswith("toy ") and "a tiny diffusion on pixels" in line for line in lines)
    assert not list(folder.iterdir())


def test_an_unknown_name_suggests_the_nearest(folder, capsys):
    assert cli.main(["init", "deshadwo"]) == 2
    assert "did you mean 'deshadow'" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_an_existing_file_is_kept_without_force(folder, capsys):
    (folder / "toy.yml").write_text("mine", encoding="utf-8")
    assert cli.main(["init", "toy"]) == 2
    assert cli.main(["init", "toy", "--schema"]) == 2
    error = capsys.readouterr().err
    assert "toy.yml: exists; choose another file with -o, or overwrite with --force" in error
    assert [path.name for path in folder.iterdir()] == ["toy.yml"]
    assert (folder / "toy.yml").read_text(encoding="utf-8") == "mine"
    assert cli.main(["init", "toy", "--force"]) == 0
    assert (folder / "toy.yml").read_bytes() == (OPTIONS / "toy.yml").read_bytes()


def test_names_a_schema_that_lies_beside_the_file(folder):
    assert cli.main(["init", "toy", "--schema"]) == 0
    assert (folder / SCHEMA_FILE).is_file()
    assert cli.main(["init", "deshadow"]) == 0
    for name in ("toy.yml", "deshadow.yml"):
        first, rest = (folder / name).read_text(encoding="utf-8").split("\n", 1)
        assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
        assert rest == (OPTIONS / name).read_text(encoding="utf-8")
        load_config(folder / name)


def test_an_existing_schema_is_kept_without_force(folder):
    (folder / SCHEMA_FILE).write_text("{}", encoding="utf-8")
    assert cli.main(["init", "toy", "--schema"]) == 2
    assert [path.name for path in folder.iterdir()] == [SCHEMA_FILE]
    assert cli.main(["init", "toy", "--schema", "--force"]) == 0
    assert (folder / SCHEMA_FILE).stat().st_size > 1000


def test_a_place_that_cannot_be_written_is_one_line(folder, capsys):
    (folder / "file").write_text("", encoding="utf-8")
    assert cli.main(["init", "toy", "-o", f"{300 * 'x'}.yml"]) == 2
    assert ".yml: cannot be written: " in capsys.readouterr().err
    assert cli.main(["init", "toy", "-o", "file/toy.yml"]) == 2
    assert "file/toy.yml: cannot be written: " in capsys.readouterr().err


@pytest.mark.parametrize("output", [".", "..", "/", "", "runs", "new/"])
@pytest.mark.parametrize("more", [(), ("--schema", "--force")])
def test_a_folder_as_output_is_one_line(folder, capsys, output, more):
    (folder / "runs").mkdir()
    assert cli.main(["init", "deshadow", "-o", output, *more]) == 2
    error = capsys.readouterr().err
    assert f"-o {output}: expected a file name, got a folder" in error
    assert error.count("\n") == 1
    assert [path.name for path in folder.rglob("*")] == ["runs"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["-o", "z.yml"], "-o"),
        (["--schema"], "--schema"),
        (["--schema", "--force"], "--schema, --force"),
    ],
)
def test_options_without_a_task_are_refused(folder, capsys, options, names):
    assert cli.main(["init", *options]) == 2
    out, error = capsys.readouterr()
    assert f"{names}: expected a TASK" in error and error.count("\n") == 1
    assert out == "" and not list(folder.iterdir())


@pytest.mark.parametrize("name", ["\udcff.yml", "a\nb: c.yml", "\x1b[31m.yml"])
@pytest.mark.skipif(os.name == "nt", reason="such names do not exist on Windows")
def test_names_that_are_no_text_do_not_change_the_file(folder, capsys, name):
    assert cli.main(["init", "toy"]) == 0
    assert cli.main(["init", "toy", "-o", name]) == 0
    files = [yaml.safe_load((folder / file).read_text("utf-8")) for file in ("toy.yml", name)]
    assert files[0] | {"name": ""} == files[1] | {"name": ""}
    assert capsys.readouterr().out.replace("\n", "").isprintable()
