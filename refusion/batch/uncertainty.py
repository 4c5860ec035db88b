"""Uncertainty maps: the standard deviation of several samples of one photo, as a gray image."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from refusion.images.gray_map import write_gray

WHITE = 0.1
"""Standard deviation in [0, 1] units that a map shows as white; larger values are clipped."""


def write_map(path: Path, deviation: Tensor) -> None:
    """Write an uncertainty map as a 16-bit gray PNG; its XMP metadata describe the scale.

    Args:
        path: the .png file.
        deviation: standard deviations (H, W) in [0, 1] units; 0 is black, `WHITE` is white.

    Raises:
        ImageError: the file cannot be written.
    """
    text = f"Standard deviation over draws; white = {WHITE:g} of full scale, black = 0"
    write_gray(path, (deviation / WHITE).cpu().numpy(), text)
