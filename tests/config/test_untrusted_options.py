"""Option files come from anywhere: none hangs, takes the memory or ends in a traceback."""

from __future__ import annotations

import copy
import gc
import math
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from options_cases import FILES

from refusion.config import config_from_dict, load_config, read_yaml
from refusion.config.networks import network_shapes
from refusion.config.parser import Component
from refusion.config.yaml_text import MAX_BYTES, read_yaml_text
from refusion.errors import ConfigError


def refusal(content: bytes | str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml_text(content, "x.yml")
    text = str(caught.value)
    assert text.startswith("x.yml: ")
    assert len(text) < 300
    assert text.isprintable()
    return text.removeprefix("x.yml: ").removeprefix("cannot be read as YAML: ")


def bomb(levels: int, copies: int, form: str) -> str:
    """Each level stands for several copies of the level before."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * copies)
        lines.append(f"a{level}: &a{level} " + form.format(names=names, level=level))
    return "\n".join(lines)


BOMBS = {
    "aliases": bomb(30, 9, "[{names}]"),
    "merge keys": bomb(30, 9, "{{<<: [{names}], k{level}: 1}}"),
    "merge keys of one": bomb(4000, 1, "{{<<: {names}, k{level}: 1}}"),
    "open lists": "[" * 10**5,
    "open sections": "{a: " * 10**5,
    "lists in lines": "- " * 10**5,
    "question marks": "? " * 10**5,
    "wide list": "[" + "1," * 10**5 + "]",
    "wide section": "\n".join(f"k{n}: 1" for n in range(10**5)),
    "number of a million digits": "a: " + "1" * 10**6,
    "hexadecimal number": "a: 0x" + "f" * 10**5,
    "fraction of many digits": "a: 1." + "1" * 10**5,
    "large file": "a" * (MAX_BYTES + 1),
    "exclamation marks": "!" * 10**6,
    "key of many characters": '"' + "a" * 10**5 + '": 1',
}


@pytest.fixture
def empty_heap():
    """Python does not search the objects of earlier tests for cycles, which takes time, too."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.usefixtures("empty_heap")
def test_bombs_are_refused_at_once(name: str):
    """As fast as 25 sound files of 1000 lines are read, which takes less than a second."""
    started = time.process_time()
    yaml.safe_load("\n".join(f"k{n}: 1" for n in range(1000)))
    read = time.process_time()
    refusal(BOMBS[name])
    assert time.process_time() - read < 25 * (read - started)


def test_bombs_take_little_memory(tmp_path: Path):
    for number, content in enumerate(BOMBS.values()):
        (tmp_path / f"{number}.yml").write_text(content)
    code = (
        "import resource, sys, pathlib\n"
        "from refusion.config import load_config\n"
        "from refusion.errors import ConfigError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.yml'):\n"
        "    try: load_config(path)\n"
        "    except ConfigError: pass\n"
        "    else: raise SystemExit(f'{path} was read')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    kib = int(subprocess.run(run, check=True, capture_output=True, timeout=60).stdout)
    assert kib < 100 * 1024
    assert resource.RUSAGE_SELF == 0  # the unit is KiB on Linux


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"])
def test_an_anchor_inside_itself(text: str):
    assert refusal(text) == "line 1: an anchor contains itself"


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a", 1),
        ("a:\n  b: 1\n  b: 1", 3, "b", 2),
        ("a: {b: 1, b: 2}", 1, "b", 1),
        ("a: 1\n'a': 2", 2, "a", 1),
        ("x: &x\n  c: 1\n  c: 2\na: {<<: *x}", 3, "c", 2),
        ("x: &x {c: 1}\na:\n  <<: *x\n  <<: *x", 4, "<<", 3),
        ("1: a\n0x1: b", 2, "1", 1),
    ],
)
def test_duplicate_keys(text: str, line: int, key: str, first: int):
    assert refusal(text) == f"line {line}: the key '{key}' is there twice, first in line {first}"


def test_a_duplicate_key_in_an_option_file_and_in_an_override(tmp_path: Path):
    path = tmp_path / "duplicate_key.yml"
    toy = next(file for file in FILES if file.stem == "toy").read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^(  )batch_size: 4.*$", r"\g<0>\n\1batch_size: 8", toy))
    with pytest.raises(ConfigError, match=r"duplicate_key\.yml: .*line \d+: the key 'batch_size'"):
        load_config(path)
    path.write_text(toy)
    with pytest.raises(ConfigError, match=r"--set 'upscale=.*the key 'factor' is there twice"):
        load_config(path, ["upscale={factor: 2, factor: 4}"])


def test_a_section_may_replace_keys_that_it_merges():
    text = "x: &x {c: 1, d: 5}\na: {<<: *x, c: 2}\nb: {<<: [*x, {e: 3}]}"
    read = read_yaml_text(text, "x.yml")
    assert read["a"] == {"c": 2, "d": 5}
    assert read["b"] == {"c": 1, "d": 5, "e": 3}


def test_aliases_are_copies():
    read = read_yaml_text("a: &a {b: 1}\nc: *a", "x.yml")
    read["c"]["b"] = 2
    assert read["a"] == {"b": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.getcwd []", "line 1: could not determine a constructor"),
        ("a: !!python/name:os.system", "line 1: could not determine a constructor"),
        ("a: !!binary aGk=", "line 1: could not determine a constructor for the tag binary"),
        ("a: !!set {b}", "line 1: could not determine a constructor for the tag set"),
        ("a: 2026-01-01", "line 1: 2026-01-01 is a date; write it in quotes"),
        ("a: 010", "line 1: 010 is an octal number in YAML; write 10, or '010' as text"),
        ("a: !!int x", "line 1: 'x' is not of the type that it claims"),
        ("a: !!bool x", "line 1: 'x' is not of the type that it claims"),
        ("a: !!float ''", "line 1: '' is not of the type that it claims"),
        ("yes: 1", "line 1: expected a text as key, got yes"),
        ("~: 1", "line 1: expected a text as key, got ~"),
        ("? [a]\n: 1", "line 1: expected a text as key, got a list"),
        ("a:\n\t- b", "line 2: found character '\\t'"),
        ("a: \0", "unacceptable character"),
        ("a: *b", "line 1: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("a: 1".encode("utf-16"), "byte 0 is not UTF-8 text; save the file as UTF-8"),
        ("a: é".encode("latin-1"), "byte 3 is not UTF-8 text"),
        ('"\\e[31m": 1\n"\\e[31m": 2', "line 2: the key '\\x1b[31m' is there twice"),
    ],
)
def test_surprises_are_refused(text: bytes | str, message: str):
    assert refusal(text).startswith(message)


def test_what_looks_like_something_else_is_what_it_looks_like():
    text = "a: 1:30\nb: =\nc: '010'\nd: 0\ne: 1_000\nf: -0.5\ng: yes\nh: '2026-01-01'\ni: 0x10"
    assert read_yaml_text(text.encode("utf-8-sig"), "x.yml") == {
        **{"a": "1:30", "b": "=", "c": "010", "d": 0, "e": 1000, "f": -0.5, "g": True},
        **{"h": "2026-01-01", "i": 16},
    }


@pytest.mark.parametrize("content", ["", "- a", "3", "a"])
def test_a_file_that_is_no_section(tmp_path: Path, content: str):
    path = tmp_path / "a.yml"
    path.write_text(content)
    for overrides in ([], ["train.steps=3"]):
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        assert "\n" not in str(caught.value)


def test_a_folder_and_a_name_with_a_nul_character(tmp_path: Path):
    for path in (tmp_path, tmp_path / "a\0b.yml", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert str(caught.value).isprintable()


BAD = (
    *(-1, 0, 1.5, 10**9, 10**30, 10**5000, math.nan, math.inf, "1e400", True, None, "x" * 10**5),
    *([], [1] * 10**4, {"a": 1}),
)


def numbers(value: object, path: tuple = (), kind: str = "") -> Iterator[tuple[tuple, str]]:
    """Places of all numbers, lists and nulls in plain values, and what they are settings of."""
    kind = value.get("type", kind) if isinstance(value, dict) else kind
    items = value.items() if isinstance(value, dict) else enumerate(value or ())
    for key, item in items:
        here = (*path, key)
        if isinstance(item, (dict, list)):
            yield from numbers(item, here, kind)
        if not isinstance(item, (dict, str, bool)):
            yield here, f"{kind}.{'.'.join(str(k) for k in here if isinstance(k, str))}"


def different_places() -> dict[str, tuple[Path, tuple]]:
    """Each setting once, with an option file and the place of a value of it."""
    found: dict[str, tuple[Path, tuple]] = {}
    for path in FILES:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        for place, name in numbers(raw):
            found.setdefault(name, (path, place))
    return found


PLACES = different_places()


def replaced(raw: dict, place: tuple, value: object) -> dict:
    changed = node = copy.deepcopy(raw)
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return changed


@pytest.fixture
def each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that did not change are not built again."""
    found: dict[str, object] = {}

    def shapes(component: Component) -> object:
        key = repr(component)
        if key not in found:
            found[key] = network_shapes(component)
        return found[key]

    monkeypatch.setattr("refusion.config.networks.network_shapes", shapes)


@pytest.mark.usefixtures("each_network_once")
@pytest.mark.parametrize("part", range(8))
def test_every_number_of_every_option_file_has_a_range(part: int):
    """A wrong value is accepted or refused in one short line with the file and the key."""
    for number, (path, place) in list(enumerate(PLACES.values()))[part::8]:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        for value in (*BAD[number % 3 :: 3], 10**30):  # each value at a third of the places
            started = time.process_time()
            try:
                config_from_dict(replaced(raw, place, value), path.name)
            except ConfigError as error:
                text = str(error)
                assert text.startswith(f"{path.name}: "), place
                assert len(text) < 300, (place, text)
                assert "\n" not in text
            else:
                assert value != 10**30, place
            assert time.process_time() - started < 3, place


def test_the_places_are_many():
    assert len(PLACES) > 100
    assert any("T" in place for _, place in PLACES.values())
