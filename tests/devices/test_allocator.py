"""A process that makes training data keeps the memory of its arrays."""

from __future__ import annotations

import subprocess
import sys

import pytest

from refusion.devices import allocator

PROGRAM = """
import resource, sys, torch
from refusion.devices.allocator import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
patch = torch.rand(3, 256, 256)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    [patch + 1 for _ in range(20)]
before = faults()
for _ in range(100):
    [patch + 1 for _ in range(20)]
print(faults() - before)
held = torch.ones(64 * 2**20 // 4)  # larger than what is kept
before = faults()
for _ in range(3):
    torch.ones(64 * 2**20 // 4)
print(faults() - before)
"""


def faults(*arguments: str) -> list[int]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(allocator._library() is None, reason="no GNU C library")
def test_arrays_of_patches_use_the_same_memory_again_and_large_ones_are_returned() -> None:
    small, large = faults("keep")
    assert small < 5_000, "2000 arrays have 384000 pages"
    assert large > 3 * 60 * 2**20 / 2**21  # pages of 4 KiB or 2 MiB
    assert faults()[0] > 5_000
