"""Lines at the end of a batch that `refusion` and `refusion-lite` both write."""

from __future__ import annotations

from refusion.weights import ABOUT


def photos_text(count: int) -> str:
    """A number of photos."""
    return "1 photo" if count == 1 else f"{count} photos"


def notes(unchanged: int, skipped: int, task: str) -> list[str]:
    """Lines about photos without a new result.

    Args:
        unchanged: number of photos whose results are the photos themselves.
        skipped: number of photos whose results were there before.
        task: task of the model, for advice about photos that it does not change.
    """
    lines = []
    if unchanged:
        text = f"{photos_text(unchanged)} unchanged, because nothing to restore was found"
        advice = ABOUT[task].advice if task in ABOUT else ""
        lines.append(f"{text}; {advice}" if advice else text)
    if skipped:
        lines.append(f"{photos_text(skipped)} skipped, the results exist")
    return lines
