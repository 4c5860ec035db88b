"""What the page calls the models, and what their previews show."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """What the page says about a model.

    Attributes:
        title: what the model does, for the list of tasks.
        help: one sentence below the list.
        detail: whether the preview shows a part of the photo at 100 %: a reduced copy of the photo
            does not show noise as the photo does.
    """

    title: str
    help: str
    detail: bool = False


_WORDS = {
    "dehaze": Words("Remove haze", "Removes haze, mist and smoke."),
    "dehaze_landscape": Words(
        "Remove haze from landscapes",
        "Also removes light haze in the distance of landscapes and cities.",
    ),
    "deshadow": Words("Remove shadows", "Makes cast shadows lighter."),
    "bokeh": Words(
        "Blur the background",
        "Blurs what is out of focus, as a fast lens does. Needs a depth map; portrait photos of "
        "phones have one.",
    ),
    "blind": Words(
        "Clean up noise and blur",
        "Removes noise, JPEG blocks and a little blur of unknown strength.",
        detail=True,
    ),
    "denoise": Words("Remove noise", "Removes the noise of cameras.", detail=True),
}

SHIPPED = tuple(_WORDS)
"""Names of the shipped models in the order of the list of tasks."""


def words_of(name: str) -> Words:
    """What the page says about a model.

    Args:
        name: name of the model; models other than the shipped ones are called by their names.
    """
    return _WORDS.get(name) or Words(name, f"The model in the file {name}.safetensors.")
