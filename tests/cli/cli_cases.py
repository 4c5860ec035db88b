"""Photos as files, shared by the tests of the commands."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from refusion.images.io import write_image


def make(name, height=20, width=14, seed=0):
    """Write a photo of noise; its folder is created."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    write_image(path, torch.rand(3, height, width, generator=generator))
    return path


def pixels(path):
    """8-bit levels (H, W, 3), float64."""
    return np.asarray(Image.open(path)).astype(np.float64)


def psnr(a, b):
    """PSNR of two files in decibels."""
    return 10 * np.log10(255**2 / np.mean((pixels(a) - pixels(b)) ** 2))
