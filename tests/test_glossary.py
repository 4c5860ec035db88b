"""docs/glossary.md and the public names of the package agree."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "glossary.md"
MODULES = sorted((ROOT / "refusion").rglob("*.py"))
PLACES = {  # `sde`, `sde/irsde`, ...
    path.relative_to(ROOT / "refusion").with_suffix("").as_posix().removesuffix("/__init__")
    for path in MODULES
}

# Private words of earlier versions, and the word that the papers and the glossary use.
FORBIDDEN = {
    "told": "condition",
    "tell": "report",
    "walk": "reverse process",
    "walked": "steps",
    "visit": "state",
    "mend": "fix",
    "mended": "fixed",
    "known": "conditions",
}
FORBIDDEN_NAMES = {"OnArrays", "Known", "Told", "Visit", "Walk"}


def identifiers():
    """Code spans of the second column that begin with a package, such as `sde.IRSDE.lam`."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row.split("|")[2])]
    return [span for span in spans if span.split(".")[0] in PLACES]


def module_and_names(dotted):
    """The longest prefix that is a module, imported, and the names after it."""
    parts = dotted.split(".")
    ends = range(len(parts), 0, -1)
    end = next(end for end in ends if "/".join(parts[:end]) in PLACES)
    return importlib.import_module(".".join(["refusion", *parts[:end]])), parts[end:]


def attribute(thing, name):
    """An attribute, or the dataclass field of that name, which may have no default."""
    if dataclasses.is_dataclass(thing) and name in {f.name for f in dataclasses.fields(thing)}:
        return name
    if name in getattr(thing, "__annotations__", {}):
        return name
    return getattr(thing, name)


def resolve(identifier):
    """What an identifier of the page names; AttributeError or AssertionError where it is not."""
    dotted, _, parameter = identifier.rstrip(")").partition("(")
    thing, names = module_and_names(dotted)
    for name in names:
        thing = attribute(thing, name)
    if parameter:
        assert parameter in inspect.signature(thing).parameters, f"{identifier}: no such parameter"
    return thing


def public_names(body):
    """Classes, their fields, functions and parameters; what is inside a function is not public."""
    for node in body:
        is_public = getattr(node, "name", "_")[0] != "_"
        if isinstance(node, ast.ClassDef):
            yield node.name
            yield from public_names(node.body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        if isinstance(node, ast.FunctionDef) and (is_public or node.name[:2] == "__"):
            yield node.name
            arguments = node.args
            every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            yield from (argument.arg for argument in every)


def words(name):
    """`tiles_perClass` -> {tiles, per, class}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def forbidden(tree):
    """Public names with a forbidden word."""
    names = {name for name in public_names(tree.body) if name[0] != "_"}
    return sorted(name for name in names if words(name) & set(FORBIDDEN) or name in FORBIDDEN_NAMES)


@pytest.mark.parametrize("identifier", identifiers())
def test_identifier_of_the_glossary_exists(identifier):
    assert resolve(identifier) is not None


def test_second_columns_hold_identifiers_only():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert not rows, "the first column holds symbols and terms"
    assert len(identifiers()) > 80


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_public_name_has_a_private_word(path):
    found = forbidden(ast.parse(path.read_text(encoding="utf-8")))
    hints = {word: FORBIDDEN[word] for name in found for word in words(name) & set(FORBIDDEN)}
    assert not found, f"rename {', '.join(found)}: {hints}; see docs/glossary.md"


def test_every_package_is_in_the_tree_of_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.split("```")[1]
    packages = [path.parent.name for path in MODULES if path.name == "__init__.py"][1:]
    assert sorted(re.findall(r"^ +([a-z_]+)/ ", tree, re.MULTILINE)) == sorted(packages)
    named = re.findall(r"`((?:refusion/)?[a-z_]+/[a-z_/]+\.py)`", page)
    assert len(named) > 10
    roots = (ROOT, ROOT / "refusion")
    assert [name for name in named if not any((root / name).is_file() for root in roots)] == []


def test_the_checks_are_able_to_fail():
    for wrong in ("sde.IRSDE.walk", "sde.nothing.IRSDE", "sde.IRSDE.posterior(told)"):
        with pytest.raises((AttributeError, AssertionError)):
            resolve(wrong)
    code = "class OnArrays:\n  told: int\ndef f(known): pass\ndef _walk(x): pass\nunknown = 1"
    assert forbidden(ast.parse(code)) == ["OnArrays", "known", "told"]
