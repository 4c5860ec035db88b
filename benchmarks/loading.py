"""Speed of the synthetic training data in samples per second and core.

python -m benchmarks.loading FOLDER [--degradations Haze Shadow] [--sizes 128 256] [--crops 1 4]
prints a table: processor time, one thread, photos in the cache. `--against DIR` measures another
checkout in turn with this one, and prints how many times faster this one is. `--patches N` prints
instead how long a patch of 256 pixels takes by decoding the file every time and from the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refusion.config.parser import Component
from refusion.data.synthetic_pairs import SyntheticPairs
from refusion.devices import allocator
from refusion.images.cache import FULL_SIDE, PhotoCache, list_photos, to_tensor
from refusion.images.io import read_image

PATCH = 256
ROOT = Path(__file__).parents[1]
SCENES = ("Haze", "Shadow", "Bokeh", "Rain", "Mask", "FirstOrder", "SecondOrder")
OWN_SCALE = ("GaussianNoise", "MotionBlur", "GaussianBlur", "Jpeg", "Downsample", "MixedNoise")
"""Degradations at the scale of pixels, whose patches are cut without resizing."""


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


def dataset_of(folder: str, name: str, patch: int, crops: int) -> SyntheticPairs:
    """The stream of one degradation with its default settings.

    Args:
        folder: photos.
        name: key of `DEGRADATIONS`.
        patch: side of the patches in pixels.
        crops: crops per photo; an older checkout without this option always has one.
    """
    settings = {"factor": 4} if name == "Downsample" else {}
    options: dict[str, Any] = {"scale_range": None} if name in OWN_SCALE else {}
    if "crops_per_photo" in signature(SyntheticPairs.__init__).parameters:
        options["crops_per_photo"] = crops
    return SyntheticPairs(
        folders=[folder], degradation=Component(name, settings), patch=patch, **options
    )


def samples_per_second(dataset: SyntheticPairs, seconds: float, start: int) -> float:
    """Samples per second of processor time.

    The same samples are made twice, and the second time counts, when their photos are in the cache.
    """
    begun, count = time.process_time(), 0
    while time.process_time() - begun < seconds:
        dataset[start + count]
        count += 1
    dataset[0]  # so that the first scene is drawn again
    begun = time.process_time()
    for index in range(start, start + count):
        dataset[index]
    return count / (time.process_time() - begun)


def serve(folder: str) -> None:
    """Answer requests on stdin, (degradation, patch, crops, seconds, start), with speeds."""
    torch.set_num_threads(1)
    getattr(allocator, "keep_freed_memory", lambda: None)()  # not in older checkouts
    for line in sys.stdin:
        name, patch, crops, seconds, start = json.loads(line)
        speed = samples_per_second(dataset_of(folder, name, patch, crops), seconds, start)
        sys.stdout.write(f"{speed}\n")
        sys.stdout.flush()


class Checkout:
    """A process that measures with the package of one checkout, by this file's functions."""

    def __init__(self, root: Path, folder: str) -> None:
        command = [sys.executable, __file__, folder, "--serve"]
        environment = {**os.environ, "PYTHONPATH": str(root.resolve())}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def measure(self, name: str, patch: int, crops: int, seconds: float, start: int) -> float:
        """Samples per second of processor time."""
        answer = ""
        with contextlib.suppress(BrokenPipeError):  # the process has ended
            self.process.stdin.write(json.dumps([name, patch, crops, seconds, start]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a measurement failed, see the error above")
        return float(answer)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def compare(options: argparse.Namespace) -> None:
    """Print one row per degradation, size and number of crops; checkouts take turns."""
    roots = [ROOT, *([options.against] if options.against else [])]
    checkouts = [Checkout(root, options.folder) for root in roots]
    titles = ["samples/s/core", *(["before", "ratio"] if options.against else [])]
    sys.stdout.write(f"{'degradation':<14} {'px':>4} {'crops':>5} " + " ".join(titles) + "\n")
    try:
        for name in options.degradations:
            for patch in options.sizes:
                for crops in options.crops:
                    speeds = [[] for _ in checkouts]
                    for part in range(options.rounds):
                        start = 1000 + 5000 * part
                        for speed, checkout in zip(speeds, checkouts, strict=True):
                            row = (name, patch, crops, options.seconds, start)
                            speed.append(checkout.measure(*row))
                    middle = [median(speed) for speed in speeds]
                    ratio = [f"{middle[0] / middle[1]:.2f}"] if options.against else []
                    numbers = [*(f"{speed:.1f}" for speed in middle), *ratio]
                    sys.stdout.write(f"{name:<14} {patch:>4} {crops:>5} {' '.join(numbers)}\n")
                    sys.stdout.flush()
    finally:
        for checkout in checkouts:
            checkout.close()


def print_reading(folder: str, count: int) -> None:
    """Print the times of decoding and of the cache."""
    photos = list_photos([folder])
    sys.stdout.write(f"{len(photos)} photos, patches of {PATCH} px, milliseconds per patch\n")
    sys.stdout.write(f"{'':<20} {'n':>5} {'median':>9} {'mean':>9} {'largest':>9}\n")
    for name, times in measure(photos, count).items():
        numbers = f"{median(times):>9.2f} {mean(times):>9.2f} {max(times):>9.2f}"
        sys.stdout.write(f"{name:<20} {len(times):>5} {numbers}\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", help="folder of photos")
    names = [*SCENES, *OWN_SCALE]
    parser.add_argument("--degradations", nargs="+", choices=names, default=names)
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--crops", nargs="+", type=int, default=[1, 4], help="crops per photo")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements, of which the median")
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--patches", type=int, help="measure the reading of files instead")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.against and not (options.against / "refusion" / "__init__.py").is_file():
        parser.error(f"--against: no checkout in '{options.against}'")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = parsed(arguments)
    if options.serve:
        serve(options.folder)
    elif options.patches:
        print_reading(options.folder, options.patches)
    else:
        compare(options)


if __name__ == "__main__":
    main()
