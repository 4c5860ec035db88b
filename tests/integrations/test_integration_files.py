"""The files of the integrations: they are in the source distribution and on the page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "integrations"
PAGE = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
FILES = [path for path in sorted(FOLDER.rglob("*")) if path.is_file() and path.suffix != ".pyc"]


def test_the_source_distribution_has_them_and_the_package_does_not():
    assert "graft integrations" in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'include = ["refusion", "refusion.*"]' in project


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_links_every_file_or_its_folder(path):
    links = re.findall(r"\]\((\.\./integrations[^)#]*)\)", PAGE)
    linked = [(ROOT / "docs" / link).resolve() for link in links if link != "../integrations"]
    assert any(path == target or target in path.parents for target in linked)


def test_tasks_are_the_same_in_every_editor():
    lua = (FOLDER / "darktable" / "refusion.lua").read_text(encoding="utf-8")
    gimp = (FOLDER / "gimp" / "refusion" / "restoration.py").read_text(encoding="utf-8")
    tasks = re.findall(r'\{ name = "(\w+)"', lua)
    assert tasks == re.findall(r'^    "(\w+)": "Remove', gimp, re.MULTILINE)
    launcher = (FOLDER / "external-editor" / "refusion-edit").read_text(encoding="utf-8")
    assert [task for task in tasks if f"refusion-{task}" not in launcher] == []


def test_python_of_the_plug_in_is_short_and_needs_nothing_of_refusion():
    for path in (FOLDER / "gimp" / "refusion").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350
        assert not re.search(r"^\s*(?:import|from) (?:refusion|torch|numpy)\b", text, re.MULTILINE)


def test_pictures_of_the_page_are_small():
    pictures = re.findall(r"!\[[^\]]*\]\((images/[^)]*)\)", PAGE)
    assert len(pictures) == 3
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < 200_000
