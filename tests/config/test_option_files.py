"""The option files of the package are found in a checkout and in a wheel."""

from pathlib import Path

import pytest
from options_cases import FILES

import refusion
from refusion.config.option_files import find_option_file, option_files, summary
from refusion.errors import ConfigError


def test_a_checkout_has_those_of_its_options_folder():
    assert [path.resolve() for path in option_files().values()] == [p.resolve() for p in FILES]
    assert find_option_file("toy") == find_option_file("toy.yml")


def test_a_wheel_has_its_own(monkeypatch, tmp_path):
    inside = tmp_path / "refusion" / "options"
    inside.mkdir(parents=True)
    (inside / "toy.yml").write_text("name: toy\n", encoding="utf-8")
    (tmp_path / "options").mkdir()  # of somebody else
    monkeypatch.setattr(
        "refusion.config.option_files.resources.files", lambda name: tmp_path / name
    )
    assert option_files() == {"toy": inside / "toy.yml"}


def test_unknown_names_and_empty_installations(tmp_path):
    with pytest.raises(ConfigError, match="no option file 'deshadwo'; did you mean 'deshadow'"):
        find_option_file("deshadwo")
    with pytest.raises(ConfigError, match="this installation has no option files"):
        find_option_file("toy", tmp_path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_has_a_summary(path):
    text = summary(path)
    assert 20 < len(text) < 250
    assert "python" not in text


def test_the_package_is_typed():
    assert (Path(refusion.__file__).parent / "py.typed").is_file()
