"""The estimate of the memory of writing is close to the measured peak of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import ctypes, re, sys
from pathlib import Path
import torch
from refusion.images.io import write_image
from refusion.images.photo import Photo
from refusion.images.write_memory import write_memory
path, mode, bits, has_alpha = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"
blocks = torch.randint(0, 256, (3, 250, 375), dtype=torch.uint8)
samples = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
if bits == 16:
    samples = (samples.int() * 257).to(torch.uint16)
alpha = torch.rand(1, 2000, 3000) if has_alpha else None
photo = Photo(samples, alpha, bit_depth=bits, mode=mode)
small = samples[:, :64, :64]
write_image(path, small, Photo(small, bit_depth=bits, mode=mode))  # loads the libraries
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
needed = []
for _ in range(3):
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the next write would use freed memory
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = peak()
    write_image(path, samples, photo)
    needed.append(peak() - before)
# The smallest, because the system also adds pages of libraries that it reads again.
print(min(needed) / 2**20, write_memory(path, photo, 3000, 2000) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("kind", [("gray", 8, 0), ("rgb", 8, 0), ("rgb", 16, 0), ("rgb", 8, 1)])
def test_estimates_are_close_to_the_measured_peak(tmp_path, suffix, kind):
    command = [sys.executable, "-c", MEASURE, str(tmp_path / f"a.{suffix}"), *map(str, kind)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    measured, estimate = map(float, done.stdout.split())
    assert 0.9 * measured - 8 <= estimate <= 2 * measured + 16
