"""Milliseconds that a training patch costs: the file decoded every time, or the cache of photos.

python benchmarks/loading.py FOLDER_OF_PHOTOS [PATCHES] cuts so many patches of 256 pixels per way.
The cache is a fresh temporary folder, so its first touch is measured too.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
from PIL import Image
from torch import Tensor

from refusion.images.cache import FULL_SIDE, PhotoCache, list_photos, to_tensor
from refusion.images.io import read_image

PATCH = 256


def cut(pixels: np.ndarray, place: random.Random) -> Tensor:
    """Random patch of (H, W, 3) pixels, (3, 256, 256) in [0, 1]."""
    top, left = (place.randrange(side - PATCH + 1) for side in pixels.shape[:2])
    return to_tensor(pixels[top : top + PATCH, left : left + PATCH])


def decoded(path: Path) -> np.ndarray:
    """The whole photo by Pillow, as a loader without a cache would have it."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def decoded_by_package(path: Path) -> np.ndarray:
    """The whole photo by `read_image`, which also checks it and keeps its metadata."""
    return (read_image(path).image.permute(1, 2, 0) * 255).round().byte().numpy()


def forget(folder: Path) -> None:
    """Ask the system to drop its copies of the cache's files: the next read is one of the disk."""
    for entry in folder.iterdir():
        handle = os.open(entry, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def milliseconds(
    load: Callable[[Path], np.ndarray],
    photos: Sequence[Path],
    count: int,
    before: Callable[[], None] = lambda: None,
) -> list[float]:
    """Time of `count` patches, photo after photo; `before` each, untimed."""
    place, times = random.Random(0), []
    for number in range(count):
        before()
        start = time.perf_counter()
        cut(load(photos[number % len(photos)]), place)
        times.append(1000 * (time.perf_counter() - start))
    return times


def measure(photos: Sequence[Path], count: int) -> dict[str, list[float]]:
    """Way -> milliseconds of its patches."""
    few = max(len(photos), count // 20)
    with tempfile.TemporaryDirectory() as folder:
        cache = PhotoCache(folder)

        def mapped(path: Path) -> np.ndarray:
            return cache.load(path, FULL_SIDE)

        rows = {
            "decode, Pillow": milliseconds(decoded, photos, few),
            "decode, read_image": milliseconds(decoded_by_package, photos, few),
            "cache, first touch": milliseconds(mapped, photos, len(photos)),
            "cache, in memory": milliseconds(mapped, photos, count),
        }
        if hasattr(os, "posix_fadvise"):
            cold = milliseconds(mapped, photos, few, before=lambda: forget(Path(folder)))
            rows["cache, from disk"] = cold
    return rows


def main() -> None:
    """Print the table."""
    photos = list_photos([sys.argv[1]])
    rows = measure(photos, int(sys.argv[2]) if len(sys.argv) > 2 else 400)
    sys.stdout.write(f"{len(photos)} photos, patches of {PATCH} px, milliseconds per patch\n")
    sys.stdout.write(f"{'':<20} {'n':>5} {'median':>9} {'mean':>9} {'largest':>9}\n")
    for name, times in rows.items():
        numbers = f"{median(times):>9.2f} {mean(times):>9.2f} {max(times):>9.2f}"
        sys.stdout.write(f"{name:<20} {len(times):>5} {numbers}\n")


if __name__ == "__main__":
    main()
