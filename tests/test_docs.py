"""The documentation site: navigation, links, the API pages, and the build where MkDocs is there."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import refusion

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
TO_COME = {"concepts.md", "cookbook/"}  # in the navigation as soon as they are there
NEEDS_MKDOCS = pytest.mark.skipif(
    importlib.util.find_spec("mkdocstrings") is None, reason="no MkDocs: make docs installs it"
)


def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = hooks()
PAGES = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))]
FILES = {name: DOCS / name for name in PAGES} | HOOKS.outside_pages()


def leaves(nav):
    """Pages and folders that the navigation names, in its order."""
    for entry in nav if isinstance(nav, list) else [nav]:
        if isinstance(entry, dict):
            for value in entry.values():
                yield from leaves(value)
        else:
            yield entry


def anchors(page):
    """Anchors of the headings of a page, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_navigation_names_every_page_and_nothing_else():
    named = list(leaves(CONFIG["nav"]))
    known = [entry in FILES or any(name.startswith(entry) for name in FILES) for entry in named]
    missing = {entry for entry, there in zip(named, known, strict=True) if not there}
    assert missing <= TO_COME
    shown = list(leaves(HOOKS.expand(CONFIG["nav"], list(FILES))))
    assert sorted(shown) == sorted(FILES)


def test_navigation_leaves_out_what_is_not_there():
    nav = [{"A": "a.md"}, {"B": ["b.md", "c/"]}, "d.md"]
    assert HOOKS.expand(nav, ["c/2.md", "c/index.md", "d.md"]) == [
        {"B": ["c/index.md", "c/2.md"]},
        "d.md",
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *FILES.values()], ids=lambda page: page.name)
def test_links_and_their_anchors_exist(page):
    for match in HOOKS.LINK.finditer(page.read_text(encoding="utf-8")):
        target, anchor = match.group(3), match.group(4)
        path = page.parent / target
        assert path.exists(), f"{page.name} links to {target}"
        if anchor and path.suffix == ".md":
            assert anchor[1:] in set(anchors(path)), f"{page.name} links to {target}{anchor}"


@pytest.mark.parametrize("page", FILES.values(), ids=lambda page: page.name)
def test_anchors_inside_a_page_exist(page):
    for anchor in re.findall(r"\]\(#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in set(anchors(page))


def api_names(page):
    return re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)


def resolved(name):
    """The module, class or function of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def test_api_pages_name_what_exists():
    names = [name for page in sorted((DOCS / "api").glob("*.md")) for name in api_names(page)]
    assert len(names) == len(set(names)) > 20
    for name in names:
        assert resolved(name).__doc__, name


def test_first_api_page_has_every_public_name():
    shown = {name.rpartition(".")[2] for name in api_names(DOCS / "api" / "index.md")}
    assert shown >= set(refusion.__all__) - {"__version__", "metrics"} | {"measure"}


def badly_formed(path):
    """Items in the docstrings of a file that are not "name: text" (MkDocs builds strictly)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = f"{ast.get_docstring(node)}\n"
            for body in re.findall(r"^(?:Args|Raises):\n((?:(?:    .*)?\n)*)", text, re.MULTILINE):
                items = re.findall(r"^    (\S.*)", body, re.MULTILINE)
                yield from (item for item in items if not re.match(r"[\w*., ]+: ?", item))


def test_sections_of_docstrings_can_be_parsed():
    paths = sorted((ROOT / "refusion").rglob("*.py"))
    assert {path.name: items for path in paths if (items := list(badly_formed(path)))} == {}


def test_start_page_links_every_task():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [name for name in PAGES if name.startswith("tasks/") and f"({name})" not in text] == []


def test_readme_fits_on_a_screen_and_a_half():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert text.count("\n| task |") == 1


def test_picture_of_the_readme_is_small():
    assert (DOCS / "images" / "tasks.jpg").stat().st_size < 400_000


@NEEDS_MKDOCS
@pytest.mark.slow
def test_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    proxy = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # no network
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | proxy | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr
    for name in FILES:
        page = (tmp_path / name).with_suffix(".html").read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]+)"', page)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="([^"]+)"', page)
        assert [url for url in loaded if re.match(r"(?:https?:)?//", url)] == []
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert "load_restorer" in api
    assert "Parameters" in api
