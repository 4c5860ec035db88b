"""Milliseconds to load a training patch: by decoding the file every time, or from the photo cache.

python benchmarks/loading.py FOLDER_OF_PHOTOS [PATCHES] cuts PATCHES patches of 256 pixels by each
method. The cache is a new temporary folder, so its first use is measured too.
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
    """The whole photo, decoded by Pillow, as in a loader without a cache."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def decoded_by_package(path: Path) -> np.ndarray:
    """The whole photo, read by `read_image`, which also checks it and keeps its metadata."""
    return (read_image(path).image.permute(1, 2, 0) * 255).round().byte().numpy()


def forget(folder: Path) -> None:
    """Remove the cache files from the memory of the system, so the next read uses the disk."""
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
    """Time of `count` patches, photo after photo; `before` runs before each and is not timed."""
    place, times = random.Random(0), []
    for number in range(count):
        before()
        start = time.perf_counter()
        cut(load(photos[number % len(photos)]), place)
        times.append(1000 * (time.perf_counter() - start))
    return times


def measure(photos: Sequence[Path], count: int) -> dict[str, list[float]]:
    """Method -> milliseconds of its patches."""
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
