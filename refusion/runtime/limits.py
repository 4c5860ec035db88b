"""How much memory a restoration needs, and tiles that need less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refusion.errors import ImageError
from refusion.memory import process_bytes

_CALL = 1000 * 2**20  # bytes of the network on a tile of the plan's side; 250 to 600 were measured
_FLOATS = 100  # bytes per pixel of the photo, for a network that runs on tiles of it
_BANDS = 100 * 2**20  # bytes of the bands of photos, and of the libraries
_SMALLEST = 64  # pixels


def tile_within(limit: int, photo: np.ndarray, plan: Mapping[str, Any]) -> int:
    """Side of the tiles with which a restoration stays within a limit, in pixels.

    A network that runs on a small copy of the photo has no tiles.

    Args:
        limit: bytes of the whole process.
        photo: (3, H, W), which counts as a part of the process.
        plan: part 'runtime' of the description in a file.

    Raises:
        ImageError: the smallest tiles need more.
    """
    height, width = photo.shape[1:]
    whole, tile = max(height, width), plan["tile"]
    copy = plan.get("copy", {}).get("side", whole)
    is_copy = "copy" in plan and whole > copy
    other = process_bytes() + photo.nbytes + _BANDS
    other += 0 if is_copy else _FLOATS * height * width
    needs_whole = "copy" in plan or "haze" in plan
    smallest = min(whole, copy) if needs_whole else _SMALLEST
    per_pixel = _CALL / tile**2
    needed = other + per_pixel * smallest**2
    if needed > limit:
        raise ImageError(
            f"max memory: a photo of {width}x{height} needs about {needed / 2**30:.1f} GB, more "
            f"than the limit of {limit / 2**30:.1f} GB; increase the limit or reduce the photo"
        )
    most = int(((limit - other) / per_pixel) ** 0.5)
    return min(tile, max(_SMALLEST, most // _SMALLEST * _SMALLEST))
