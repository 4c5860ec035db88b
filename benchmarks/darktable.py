"""What a .dtmodel package gives in darktable: PSNR on degraded photos, and the effect of tiles.

python -m benchmarks.darktable FOLDER FILE.dtmodel ... --names 17 18 runs each package on photos
with Gaussian noise, clipped and rounded as in a file. It does so in one piece and in tiles as
darktable cuts them: squares of --tile pixels, of which the rim of 64 pixels is cut off; beyond the
photo they are mirrored. --restorer adds `refusion` itself.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from benchmarks.blind import FULL_SIZE
from refusion import load_restorer
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.export.local_graph import RIM
from refusion.images.io import read_image
from refusion.images.listing import list_images
from refusion.metrics.psnr import psnr
from refusion.randomness import keyed_generator
from refusion.synthesis.camera import quantise

LARGEST = "largest difference"
Restore = Callable[[np.ndarray], np.ndarray]


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.darktable", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of clean photos that were not used for training")
    add("packages", type=Path, nargs="*", metavar="FILE.dtmodel", help="packages to measure")
    add("--names", nargs="+", help="only these photos: file names without suffix")
    add("--levels", nargs="*", type=float, default=[15, 25, 50], help="of the noise, 8-bit levels")
    add("--degradations", nargs="*", default=[], help="also these, such as SecondOrder")
    add("--tile", type=int, nargs="+", default=[1024], metavar="PX", help="sides of the tiles")
    add("--restorer", metavar="TASK", help="also this shipped model, as refusion runs it")
    return parser


def in_tiles(restore: Restore, photo: np.ndarray, side: int) -> np.ndarray:
    """Restore a photo in tiles, as darktable does.

    Args:
        restore: (3, side, side) to (3, side, side).
        photo: (3, H, W).
        side: of the tiles in pixels, above 128.

    Returns:
        (3, H, W).
    """
    height, width = photo.shape[1:]
    step, result = side - 2 * RIM, np.empty_like(photo)
    for y in range(0, height, step):
        for x in range(0, width, step):
            rows = mirrored(np.arange(y - RIM, y - RIM + side), height)
            columns = mirrored(np.arange(x - RIM, x - RIM + side), width)
            inner = restore(photo[:, rows][:, :, columns])[:, RIM:-RIM, RIM:-RIM]
            kept = result[:, y : y + step, x : x + step]
            kept[...] = inner[:, : kept.shape[1], : kept.shape[2]]
    return result


def mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Positions beyond a line of pixels, mirrored at its first and last pixel."""
    period = max(1, 2 * (length - 1))
    index = index % period
    return np.minimum(index, period - index)


def load(package: Path) -> Restore:
    """The graph of a package as a function of a photo (3, H, W) float32."""
    import onnxruntime

    with zipfile.ZipFile(package) as file:
        graph = file.read(f"{package.stem}/model.onnx")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda photo: session.run(None, {session.get_inputs()[0].name: photo[None]})[0][0]


def pairs(options: argparse.Namespace) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Columns of the table with a degraded and a clean photo, (3, H, W)."""
    files = list_images(options.folder)
    for number, path in enumerate(files):
        if options.names and path.stem not in options.names:
            continue
        clean = read_image(path).image
        for level in options.levels:
            noise = torch.randn(clean.shape, generator=keyed_generator(number, round(level)))
            yield f"noise {level:g}", quantise(clean + level / 255 * noise), clean
    for kind in options.degradations:
        data = DATASETS["SyntheticPairs"](
            folders=[options.folder],
            degradation=Component(kind, {}),
            whole=True,
            max_side=FULL_SIZE,
            seed=0,
        )
        for number, path in enumerate(data.photos):
            if not options.names or path.stem in options.names:
                yield kind, data[number]["lq"], data[number]["gt"]


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Means over the photos by column: PSNR in dB, differences in 8-bit levels."""
    models = {path.stem: load(path) for path in options.packages}
    restorer = load_restorer(options.restorer, precision="fp32") if options.restorer else None
    found: dict[str, list[dict[str, float]]] = {}
    for column, degraded, clean in pairs(options):
        scores = scores_of(models, degraded.numpy(), clean, options.tile)
        if restorer is not None:
            result = restorer.restore(degraded[None])[0].clamp(0, 1)
            scores[f"refusion {options.restorer}"] = score(result, clean)
        found.setdefault(column, []).append(scores)
    return {column: summary(rows) for column, rows in found.items()}


def scores_of(
    models: Mapping[str, Restore], degraded: np.ndarray, clean: Tensor, tiles: Sequence[int]
) -> dict[str, float]:
    """PSNR of each model for a photo, whole and in tiles, and the differences of the tiles."""
    scores = {"input": score(degraded, clean)}
    wide = np.pad(degraded, ((0, 0), (RIM, RIM), (RIM, RIM)), mode="reflect")  # a single tile
    for name, restore in models.items():
        whole = restore(wide)[:, RIM:-RIM, RIM:-RIM]
        scores[name] = score(whole, clean)
        for side in tiles:
            tiled = in_tiles(restore, degraded, side)
            difference = 255 * np.abs(tiled - whole)
            scores[f"{name}, tiles of {side}"] = score(tiled, clean)
            scores[f"{name}, tiles of {side}: mean difference"] = float(difference.mean())
            scores[f"{name}, tiles of {side}: {LARGEST}"] = float(difference.max())
    return scores


def score(image: Tensor | np.ndarray, clean: Tensor) -> float:
    """PSNR of a photo (3, H, W) in dB."""
    return float(psnr(torch.as_tensor(image)[None], clean[None]))


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the photos; of the largest differences, the largest."""
    return {
        name: (max if name.endswith(LARGEST) else fmean)([row[name] for row in rows])
        for name in rows[0]
    }


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown table with a row for each method."""
    lines = [f"| | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for name in next(iter(found.values())):
        lines.append(f"| {name} | {' | '.join(f'{each[name]:.2f}' for each in found.values())} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and print."""
    sys.stdout.write(table(measure(build_parser().parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
