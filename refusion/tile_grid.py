"""Where the tiles of a photo lie, as whole numbers: for PyTorch and for the runtime in NumPy."""

from __future__ import annotations

OVERLAP = 64
"""Pixels that neighbouring tiles share, or a quarter of the side of a tile if that is less."""
Span = tuple[int, int]
"""First pixel of a tile on one axis, and the pixel after its last one."""


def overlap_of(tile: int) -> int:
    """Pixels that neighbouring tiles share at least.

    Args:
        tile: side of a square tile in pixels.
    """
    return min(tile // 4, OVERLAP)


def tile_grid(height: int, width: int, tile: int, align: int) -> tuple[list[Span], list[Span]]:
    """Tiles of one size, spread evenly over the rows and the columns of a photo.

    Of the possible grids, the one with the fewest pixels in its tiles is taken.

    Args:
        height: rows of the photo.
        width: columns of the photo.
        tile: a tile has at most tile^2 pixels, and sides of at most 3/2 tile; a multiple of
            `align`.
        align: tiles start at multiples of this number; the last one is up to align - 1 pixels
            shorter than the others.

    Returns:
        Tiles of the rows and of the columns.
    """
    if height * width <= tile**2:
        return [(0, height)], [(0, width)]
    longest = tile // align
    # From here on all lengths are multiples of `align`.
    shared = min(-(-overlap_of(tile) // align), longest - 1)
    high, wide = -(-height // align), -(-width // align)
    fewest, most = (
        _count(high, side, shared) for side in (longest * 3 // 2, max(longest * 2 // 3, shared + 1))
    )
    found = []
    for rows in range(fewest, most + 1):
        side = _side(high, rows, shared)
        if longest**2 // side > shared:
            columns = _count(wide, longest**2 // side, shared)
            pixels = rows * side * columns * _side(wide, columns, shared)
            found.append((pixels, rows * columns, rows, columns))
    _, _, rows, columns = min(found)
    return _spans(height, rows, shared, align), _spans(width, columns, shared, align)


def _count(length: int, longest: int, shared: int) -> int:
    """Fewest tiles of up to `longest` pixels that cover an axis and share `shared` pixels."""
    return 1 if length <= longest else 1 - (longest - length) // (longest - shared)


def _side(length: int, count: int, shared: int) -> int:
    """Shortest side of `count` tiles that cover an axis and share `shared` pixels."""
    return -(-(length + (count - 1) * shared) // count)


def _spans(length: int, count: int, shared: int, align: int) -> list[Span]:
    """`count` tiles of an axis of `length` pixels, spread evenly."""
    cells = -(-length // align)
    side = _side(cells, count, shared)
    starts = [(cells - side) * number // max(1, count - 1) * align for number in range(count)]
    return [(start, min(start + side * align, length)) for start in starts]
