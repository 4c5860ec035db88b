"""Texts of the page as HTML; everything that comes from users is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from refusion.batch.jobs import Outcome
from refusion.errors import one_line

_STAGES = {"read": "Reading", "write": "Writing"}


def stage_text(stage: str) -> str:
    """What the progress bar says about a stage; see `JobProgress`.

    Args:
        stage: the stage, or such a text with the name of the photo before it.

    >>> stage_text("encode"), stage_text("2 of 3: a.jpg, read")
    ('Restoring', '2 of 3: a.jpg, reading')
    """
    before, comma, last = stage.rpartition(", ")
    text = _STAGES.get(last, "Restoring")
    return f"{before}{comma}{text.lower()}" if before else text


def note_html(text: str) -> str:
    """A line of information; screen readers read it when it changes.

    Args:
        text: the line.
    """
    return f'<p class="note" role="status">{html.escape(text)}</p>'


def error_html(text: str) -> str:
    """A line about an error; screen readers read it at once.

    Args:
        text: the line; line breaks and control characters are removed.
    """
    return f'<p class="error" role="alert">{html.escape(one_line(text))}</p>'


def size_text(size: int) -> str:
    """Size of a file.

    Args:
        size: number of bytes.

    >>> size_text(2_340_000), size_text(800)
    ('2.3 MB', '1 kB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"


def summary_html(outcomes: Sequence[Outcome], errors: Sequence[str], warning: str | None) -> str:
    """What was restored, and what failed.

    Args:
        outcomes: outcomes of the restored photos.
        errors: one line for each photo that failed.
        warning: a warning about the settings; None for none.
    """
    seconds = sum(sum(outcome.seconds.values()) for outcome in outcomes)
    notes = []
    if len(outcomes) == 1 and not errors:
        (width, height), level = outcomes[0].sizes[0], outcomes[0].noise_level
        notes.append(f"{width} x {height} pixels restored in {seconds:.1f} s.")
        if level is not None:
            notes.append(f"Estimated noise level: {level:.1f} of 255.")
        if outcomes[0].unchanged:
            notes.append("Nothing to restore was found: the pixels are those of the photo.")
    else:
        total = len(outcomes) + len(errors)
        notes.append(f"{len(outcomes)} of {total} photos restored in {seconds:.1f} s.")
        if unchanged := sum(outcome.unchanged for outcome in outcomes):
            notes.append(f"In {unchanged} nothing to restore was found.")
    lines = [note_html(" ".join(notes)), *map(error_html, errors)]
    if warning:
        lines.insert(1, note_html(warning[0].upper() + warning[1:] + "."))
    return "".join(lines)
