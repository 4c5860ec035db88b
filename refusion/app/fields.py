"""The fields of the page, and which of them a model has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refusion.app.values import (
    APERTURES,
    AS_PHOTO,
    EXPOSURES,
    LOSSY,
    MAX_NOISE,
    MAX_SAMPLES,
    MAX_SEED,
    MAX_STEPS,
)
from refusion.app.words import words_of
from refusion.cli.options.results import FORMATS
from refusion.images.listing import IMAGE_SUFFIXES
from refusion.restorers import Restorer, RestorerInfo

FIELDS = (
    "photos",
    "task",
    "strength",
    "maps",
    "aperture",
    "focus",
    "format",
    "quality",
    "distance",
    "exposure",
    "noise_level",
    "steps",
    "seed",
    "samples",
)
"""Names of the fields, in the order of the values that a click sends."""

_FILE_TYPES = ["image", *IMAGE_SUFFIXES]  # 'image' makes telephones offer their photos
_FORMAT_NAMES = {"jpeg": "JPEG", "webp": "WebP"}


def task_field(gr: Any, models: Mapping[str, Restorer]) -> Any:
    """The list of tasks.

    Args:
        gr: the module Gradio.
        models: restorers by name; the first one is chosen.
    """
    choices, first = [(words_of(name).title, name) for name in models], next(iter(models))
    return gr.Radio(choices, value=first, label="Task", info=words_of(first).help, elem_id="task")


def photo_field(gr: Any) -> Any:
    """The field for the photos."""
    return gr.File(
        label="Photos",
        file_count="multiple",
        file_types=_FILE_TYPES,
        elem_id="photos",
        height=150,
    )


def strength_field(gr: Any, info: RestorerInfo, value: object = 100) -> Any:
    """The slider for the strength, in percent.

    Args:
        gr: the module Gradio.
        info: description of the restorer.
        value: the strength so far, which is kept if the model has it.
    """
    low, high = (100 * limit for limit in info.strengths)
    more = "; above 100 removes more haze, below 0 adds haze" if info.predicts_haze else ""
    return gr.Slider(
        low,
        high,
        fitting_strength(info, value),
        step=5,
        label="Strength in %",
        info=f"0 is the photo, 100 the result{more}",
        elem_id="strength",
        buttons=["reset"],
    )


def fitting_strength(info: RestorerInfo, value: object) -> float:
    """The strength in percent, or 100 if the model does not have it.

    Args:
        info: description of the restorer.
        value: the strength so far.
    """
    low, high = (100 * limit for limit in info.strengths)
    return value if isinstance(value, (int, float)) and low <= value <= high else 100


def bokeh_fields(gr: Any) -> dict[str, Any]:
    """Fields of models that imitate a lens."""
    maps = gr.File(
        label="Depth map of the photo (brighter is nearer)",
        file_count="multiple",
        file_types=_FILE_TYPES,
        elem_id="maps",
        height=120,
    )
    aperture = gr.Slider(
        *APERTURES,
        1.8,
        step=0.1,
        label="Aperture (f-number)",
        info="Small numbers blur more",
        elem_id="aperture",
        buttons=["reset"],
    )
    focus = gr.Textbox(
        label="Focus",
        info="Click on what should be sharp, or give x, y from 0 to 1",
        placeholder="automatic",
        max_lines=1,
        elem_id="focus",
    )
    return {"maps": maps, "aperture": aperture, "focus": focus}


def format_fields(gr: Any) -> dict[str, Any]:
    """Fields of the download."""
    names = [(_FORMAT_NAMES.get(name, name.upper()), name) for name in FORMATS]
    kind = gr.Dropdown(
        [("As the photo", AS_PHOTO), *names],
        value=AS_PHOTO,
        label="Format of the download",
        elem_id="format",
    )
    return {"format": kind, "quality": quality_field(gr, AS_PHOTO)}


def quality_field(gr: Any, kind: object, value: object = 95) -> Any:
    """The slider for the quality, for formats that have one.

    Args:
        gr: the module Gradio.
        kind: value of the field for the format.
        value: the quality so far.
    """
    return gr.Slider(
        1, 100, value, step=1, label="Quality", elem_id="quality", visible=kind in LOSSY
    )


def advanced_fields(gr: Any, info: RestorerInfo) -> dict[str, Any]:
    """Fields that few users need; `visible` of each depends on the model.

    Args:
        gr: the module Gradio.
        info: description of the restorer.
    """
    whole = {"value": 0, "precision": 0, "minimum": 0}
    visible = visible_fields(info)
    return {
        "distance": gr.Slider(
            0,
            1,
            1,
            step=0.01,
            label="Distance",
            info="Haze is removed up to this share of its largest optical depth",
            elem_id="distance",
            visible=visible["distance"],
        ),
        "exposure": gr.Dropdown(
            list(EXPOSURES),
            value="auto",
            label="Exposure",
            info="Auto brightens a photo that is dark without its dense haze",
            elem_id="exposure",
            visible=visible["exposure"],
        ),
        "noise_level": gr.Slider(
            0,
            MAX_NOISE,
            0,
            step=1,
            label="Noise level",
            info="Standard deviation in 8-bit levels; 0: estimated from the photo",
            elem_id="noise_level",
            visible=visible["noise_level"],
        ),
        "steps": gr.Number(
            **whole,
            maximum=MAX_STEPS,
            label="Steps",
            info="0: default of the model",
            elem_id="steps",
            visible=visible["steps"],
        ),
        "seed": gr.Number(
            **whole,
            maximum=MAX_SEED,
            label="Seed",
            info="Seed of the random noise",
            elem_id="seed",
            visible=visible["seed"],
        ),
        "samples": gr.Slider(
            1,
            MAX_SAMPLES,
            1,
            step=1,
            label="Samples",
            info="2 or more: mean of the samples and a map of their differences",
            elem_id="samples",
            visible=visible["samples"],
        ),
    }


def visible_fields(info: RestorerInfo) -> dict[str, bool]:
    """Whether each advanced field has an effect for a model.

    Args:
        info: description of the restorer.
    """
    return {
        "distance": info.predicts_haze,
        "exposure": info.predicts_haze,
        "noise_level": "noise_std" in info.optional,
        "steps": info.steps > 0,
        "seed": info.stochastic,
        "samples": info.stochastic,
    }
