"""Photos and comparisons shared by the tests of the datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def save_photo(path: Path, width: int = 96, height: int = 64) -> np.ndarray:
    """Smooth colours; no two names alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    phase = sum(path.name.encode())
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = [np.sin(x * (c + 1) + y + phase) for c in range(3)]
    pixels = (127 + 120 * np.stack(waves, -1)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def address_photo(width: int, height: int, scale: int = 1) -> np.ndarray:
    """(H, W, 3) uint8 whose red is the column, green the row, each over `scale`, blue 77."""
    rows, columns = np.mgrid[:height, :width] // scale
    return np.stack([columns, rows, np.full_like(rows, 77)], -1).astype(np.uint8)


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one.keys() - {"name"}:
        assert torch.equal(one[key], other[key]), key
