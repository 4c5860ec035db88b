"""Hooks of MkDocs: pages from outside docs/, links as GitHub resolves them, folders in `nav`."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]*[./][^)#\s]*)(#[^)\s]*)?\)")


def outside_pages(root: Path = ROOT) -> dict[str, Path]:
    """Pages of the site that lie outside docs/: name on the site -> file."""
    cards = sorted((root / "refusion" / "weights").glob("*.md"))
    pages = {f"cards/{card.name}": card for card in cards}
    names = ("CONTRIBUTING.md", "CHANGELOG.md")
    return pages | {name.lower(): root / name for name in names}


def expand(nav: list[Any], pages: list[str]) -> list[Any]:
    """``nav`` with folders replaced by their pages, and without entries that have no page.

    Args:
        nav: entries of mkdocs.yml: a page, a folder that ends in "/", or {title: page or entries}.
        pages: names of all pages of the site, relative to docs/.

    >>> expand([{"Recipes": "book/"}, {"Later": ["later.md"]}], ["book/b.md", "book/a.md"])
    [{'Recipes': ['book/a.md', 'book/b.md']}]
    """
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            single = isinstance(value, str) and not value.endswith("/")
            inside = expand([value] if isinstance(value, str) else value, pages)
            found += [{title: inside[0] if single else inside}] if inside else []
        elif entry.endswith("/"):
            found += sorted(
                (page for page in pages if page.startswith(entry)),
                key=lambda page: (not page.endswith("index.md"), page),
            )
        elif entry in pages:
            found.append(entry)
    return found


def on_config(config: Any) -> Any:
    """Make anchors as GitHub does and complete the navigation."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    docs = Path(config.docs_dir)
    pages = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    config.nav = expand(config.nav, [*pages, *outside_pages()])
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/."""
    from mkdocs.structure.files import File

    for name, path in outside_pages().items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as the site has them; a link to code becomes its text alone."""
    here = Path(page.file.abs_src_path).resolve().parent
    uris = {Path(file.abs_src_path).resolve(): file.src_uri for file in files if file.abs_src_path}

    def on_site(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        path = Path(os.path.normpath(here / target))
        if path in uris:
            link = posixpath.relpath(uris[path], posixpath.dirname(page.file.src_uri) or ".")
            return f"{image}[{text}]({link}{anchor})"
        inside = path.is_relative_to(Path(config.docs_dir))
        return match.group() if inside or not path.exists() else text

    return LINK.sub(on_site, markdown)
