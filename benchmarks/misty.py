"""Photos of a folder that show natural mist or haze, which a dehazing model must not learn to keep.

python -m benchmarks.misty FOLDER [FOLDER ...] > misty.txt lists their file names, one per line, the
mistiest first. A line "# VALUE" above each name holds the value of `mistiness`. --least changes how
many photos are listed. `exclude: misty.txt` of `SyntheticPairs` leaves them out of a training.

The value is a logistic regression on eight statistics of a copy of 256 pixels. It was fitted to
labels given by eye to 1,181 free photos: 56 with mist or haze, 48 doubtful ones (left out), 1,077
clear ones. Cross-validated in five parts, it lists 44 photos: 23 with mist or haze, 7 doubtful ones
and 14 clear ones (sea, sunset, dunes). So it finds two of five; look through the list, and through
the photos, before use. The statistics were chosen on the same photos.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion import read_image
from refusion.images.cache import list_photos
from refusion.images.resize import shrink
from refusion.nets.dark_channel import dark_channel

SIDE = 256  # longest side in pixels of the copy that is measured
LUMA = (0.299, 0.587, 0.114)  # BT.601
EDGE = 0.04  # range of the luma in 3 x 3 pixels at an edge, at least
SHARP = 0.5  # share of the range in 9 x 9 pixels that the range in 3 x 3 pixels has at a sharp edge
FEW = 20  # with fewer edges, the statistics of edges are the means of all photos
FLAT = 0.01  # range of the luma in 9 x 9 pixels of a flat area, at most
VEILED = 0.1  # dark channel of an area with a veil, at least
LEAST = -1.0  # value of `mistiness` from which a photo is listed

# Mean, standard deviation and weight of each statistic, and the constant of the regression.
STATISTICS = {
    "brightness of the upper third": (0.4863, 0.2079, 0.846),
    "local contrast of the upper third": (0.0923, 0.0479, -0.851),
    "dark side of edges, lower quartile": (0.1848, 0.1191, -0.462),
    "dark side of edges, median": (0.2835, 0.1417, -1.306),
    "contrast of edges": (0.4656, 0.1617, -0.844),
    "share with a veil below the upper third": (0.3216, 0.2940, 0.478),
    "share of rows darker than the row above": (0.5085, 0.1066, 0.379),
    "share of flat areas": (0.0528, 0.1263, -0.632),
}
CONSTANT = -4.06


def statistics(photo: Tensor) -> Tensor:
    """The values of `STATISTICS` for a photo.

    Args:
        photo: (1, 3, H, W), float in [0, 1], or uint8 or uint16 over their full range.

    Returns:
        (8,) float32.
    """
    small = shrink(photo, SIDE)
    luma = (small * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    third = luma.shape[-2] // 3
    dark, fine, coarse = dark_channel(luma, 3), _range(luma, 3), _range(luma, 9)
    is_edge = (fine > EDGE) & (fine / coarse.clamp(min=1 / 255) > SHARP)
    is_edge[..., :third, :] = False
    contrast = (fine / (dark + fine).clamp(min=0.02))[is_edge]
    spread = (_mean(luma * luma, 31) - _mean(luma, 31).square()).clamp(min=0).sqrt()
    rows = luma.mean(dim=-1).flatten()
    values = [
        luma[..., : third + 1, :].mean(),
        spread[..., : third + 1, :].mean(),
        _quantile(dark[is_edge], 0.25, "dark side of edges, lower quartile"),
        _quantile(dark[is_edge], 0.5, "dark side of edges, median"),
        _quantile(contrast, 0.5, "contrast of edges"),
        (dark_channel(small, 31)[..., third:, :] > VEILED).float().mean(),
        (rows[1:] < rows[:-1]).float().mean() if len(rows) > 1 else torch.tensor(0.5),
        (coarse < FLAT).float().mean(),
    ]
    return torch.stack(values)


def mistiness(photo: Tensor) -> float:
    """Logarithm of the odds that a photo shows natural mist; from `LEAST` on it is listed.

    Args:
        photo: see `statistics`.
    """
    mean, std, weight = torch.tensor(list(STATISTICS.values())).T
    return CONSTANT + float((weight * (statistics(photo) - mean) / std).sum())


def _range(luma: Tensor, window: int) -> Tensor:
    return -dark_channel(-luma, window) - dark_channel(luma, window)


def _mean(luma: Tensor, window: int) -> Tensor:
    half = window // 2  # in two passes, which is 10 times as fast for a window of 31
    columns = F.avg_pool2d(luma, (window, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, window), 1, (0, half), count_include_pad=False)


def _quantile(values: Tensor, share: float, name: str) -> Tensor:
    """A quantile; for too few values the mean of all photos."""
    if len(values) < FEW:
        return torch.tensor(float(STATISTICS[name][0]))
    return torch.quantile(values, share)


def main() -> None:
    """Write the list to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="photos, searched recursively")
    parser.add_argument(
        "--least",
        type=float,
        default=LEAST,
        help=f"value of `mistiness` from which a photo is listed (default: {LEAST:g})",
    )
    options = parser.parse_args()
    values = {
        path.name: mistiness(read_image(path).image[None]) for path in list_photos(options.folders)
    }
    for name, value in sorted(values.items(), key=lambda item: -item[1]):
        if value >= options.least:
            sys.stdout.write(f"# {value:.2f}\n{name}\n")


if __name__ == "__main__":
    main()
