"""Rules of the source tree that no single test could see, read off the syntax trees."""

import ast
import graphlib
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "refusion").rglob("*.py"))
SCRIPTS = [ROOT / name for name in ("train.py", "test.py", "tiled_infer.py")]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE
}

# Packages from the ground up. A package imports those of lower floors only; the parts of `PURE`
# do not know each other. `refusion` itself holds the version and lazy names: anyone may import it.
LAYERS = [
    {
        "",
        "arguments",
        "errors",
        "failures",
        "files",
        "haze_options",
        "tile_grid",
        "hints",
        "memory",
        "randomness",
        "tensor_files",
    },
    {"config", "weights"},
    {"images"},
    {"sde", "nets", "metrics", "operators", "runtime"},
    {"checkpoint", "devices", "optics", "submission"},
    {"official", "synthesis", "tiling"},
    {"data", "stable_diffusion"},
    {"restorers"},
    {"batch", "evaluation", "training", "export"},
    {"cli"},
    {"app", "__main__"},
]
PURE = LAYERS[3]
TORCH_ONLY = {"sde", "nets", "operators"}
MAX_LINES = 350


def relative(path):
    return str(path.relative_to(ROOT))


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def part(module):
    """`refusion.sde.irsde` -> `sde`; `refusion` -> the empty word."""
    return [*module.split("."), ""][1]


def imported(nodes):
    """Dotted names of the modules that import statements among `nodes` may load."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            # `from refusion.sde import irsde` may name a module or a thing inside one.
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found = [name for name in names if name in MODULES]
            yield from found or [node.module]


def layer(name):
    ranks = [rank for rank, parts in enumerate(LAYERS) if name in parts]
    assert ranks, f"refusion.{name} has no layer: give it one in LAYERS of {__name__}"
    return ranks[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    own = part(module)
    for name in imported(ast.walk(tree(MODULES[module]))):
        if name.split(".")[0] != "refusion":
            continue
        other = part(name)
        higher = other != own and layer(other) >= layer(own)
        # The version and the lazy names, errors, files and randomness know nothing above them.
        assert not higher or layer(own) == 0, f"{module} imports {name} from its own floor or above"


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) in TORCH_ONLY])
def test_mathematics_and_networks_import_torch_only(module):
    roots = {name.split(".")[0] for name in imported(ast.walk(tree(MODULES[module])))}
    assert roots - sys.stdlib_module_names <= {"torch", "refusion"}


def test_modules_do_not_import_in_circles():
    """Imports inside functions and for type checkers count, too."""
    graph = {
        module: {name for name in imported(ast.walk(tree(path))) if name in MODULES} - {module}
        for module, path in MODULES.items()
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize(
    "path", [path for path in PACKAGE if path.name == "__init__.py"], ids=relative
)
def test_a_package_says_what_lives_there_and_where_to_add_a_thing(path):
    """A sentence on the content, then a paragraph on what may import it and how it grows."""
    docstring = ast.get_docstring(tree(path))
    summary, _, rest = docstring.partition("\n\n")
    assert summary.count("\n") == 0
    assert len(rest.split()) >= 15


@pytest.mark.parametrize("path", [*PACKAGE, *SCRIPTS, *BENCHMARKS, *TESTS], ids=relative)
def test_no_forbidden_import(path):
    names = list(imported(ast.walk(tree(path))))
    assert not [name for name in names if name.split(".")[0] == "torchvision"]
    stars = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    assert not stars


@pytest.mark.parametrize("path", [*PACKAGE, *SCRIPTS], ids=relative)
def test_no_print_no_shell_no_path_edits(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "os.system", "exec", "eval"}, f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) != "sys.path", f"line {node.lineno}"


@pytest.mark.parametrize("path", [*PACKAGE, *SCRIPTS, *BENCHMARKS, *TESTS], ids=relative)
def test_file_is_short_enough_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_hold_no_logic(path):
    kinds = [type(node).__name__ for node in tree(path).body]
    assert kinds == ["Expr", "Import", "ImportFrom", "If"]
    assert len(tree(path).body[-1].body) == 1


def test_the_rules_are_able_to_fail():
    bad = ast.parse("from refusion.sde import *\nimport torchvision.io\nprint(1)")
    assert list(imported(bad.body)) == ["refusion.sde", "torchvision.io"]
    assert layer("cli") > layer("sde")
    assert part("refusion.sde.irsde") == "sde"
    assert part("refusion") == ""
    assert len(MODULES) >= 5
