"""Sizes of memory as users write them."""

import pytest

from refusion import memory
from refusion.errors import ConfigError

SIZES = {"4G": 2**32, "1.5g": 3 * 2**29, "800M": 800 * 2**20, "512 MiB": 2**29, "7": 7, "2KB": 2048}


@pytest.mark.parametrize("text", SIZES)
def test_sizes_are_read(text):
    assert memory.parse_memory(text) == SIZES[text]


@pytest.mark.parametrize(
    "text", ["", "4X", "G", "-1G", "0", "1e9", "0.0001K", "4 G G", "9" * 400, "9" * 400 + "T"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="4G"):
        memory.parse_memory(text)


def test_a_process_grows_with_what_it_holds():
    before = memory.process_bytes()
    held = bytearray(b"x") * (64 * 2**20)
    grown = memory.process_bytes() - before
    assert before == memory._PROCESS or 0.9 * len(held) < grown < 2 * len(held)
