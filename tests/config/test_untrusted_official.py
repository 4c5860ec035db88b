"""Option files of the official code with wrong values end in one short line."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
from official_cases import OPTIONS

from refusion.config import config_from_dict
from refusion.config.official.options import official_run
from refusion.errors import ConfigError

BAD = (
    *(-1, 0, 10**30, 1.5, math.nan, math.inf, "1e400", True, None, "x" * 10**4, "$NOWHERE/a"),
    *([1] * 10**4, {"a": 1}, [], [None], [{}]),
)


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Places of all values in sections and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


CASES = {place: name for name, raw in OPTIONS.items() if "/train/" in name for place in places(raw)}


@pytest.mark.parametrize("part", range(4))
def test_wrong_values(part: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("refusion.config.networks.network_shapes", lambda component: {})
    for number, (place, name) in list(enumerate(CASES.items()))[part::4]:
        for value in BAD[number % 3 :: 3]:
            raw = node = copy.deepcopy(OPTIONS[name])
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = value
            try:
                config_from_dict(official_run(raw, name), name)
            except ConfigError as error:
                assert str(error).startswith(f"{name}: "), place
                assert len(str(error)) < 300, place


def test_the_places_are_many():
    assert len(CASES) > 50
