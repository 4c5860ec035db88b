"""Lines at the end of a batch that `refusion` and `refusion-lite` both write."""

from __future__ import annotations


def photos_text(count: int) -> str:
    """A number of photos."""
    return "1 photo" if count == 1 else f"{count} photos"


def notes(unchanged: int, skipped: int) -> list[str]:
    """Lines about photos without a new result.

    Args:
        unchanged: number of photos whose results are the photos themselves.
        skipped: number of photos whose results were there before.
    """
    lines = []
    if unchanged:
        lines.append(f"{photos_text(unchanged)} unchanged, because nothing to restore was found")
    if skipped:
        lines.append(f"{photos_text(skipped)} skipped, the results exist")
    return lines
