"""The content of the page: its components and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refusion.app.actions import Actions
from refusion.app.events import connect
from refusion.app.fields import (
    advanced_fields,
    bokeh_fields,
    format_fields,
    photo_field,
    strength_field,
    task_field,
    visible_fields,
)
from refusion.app.slot import Slot
from refusion.app.storage import Storage
from refusion.restorers import Restorer, RestorerInfo

if TYPE_CHECKING:  # Gradio is an extra
    import gradio

KEPT_S = 3600
"""Seconds after which uploads and results are deleted while the page is served."""
_EVERY_S = 600  # seconds between two deletions of old files
_MAP = "Uncertainty (standard deviation of the samples): black 0, white 0.1 of full scale"
_TITLE = """<header><h1>Refusion</h1>
<p>Photos are restored on the machine that serves this page. Nothing is sent anywhere else.</p>
</header>"""


def build_page(
    models: Mapping[str, Restorer],
    max_pixels: int,
    slot: Slot,
    storage: Storage,
    max_memory: int | None = None,
) -> gradio.Blocks:
    """Build the page; `server.application` of the result serves it.

    Args:
        models: restorers by the names in the list of tasks; the first one is the default.
        max_pixels: larger photos are refused before they are decoded.
        slot: runs the restorations; closing a browser tab stops those of the tab.
        storage: contains the uploads and results.
        max_memory: maximum number of bytes of the process; None for no limit.
    """
    import gradio as gr

    page = gr.Blocks(
        title="Refusion", analytics_enabled=False, delete_cache=(_EVERY_S, KEPT_S), fill_width=True
    )
    ui: dict[str, Any] = {}
    with page:
        gr.HTML(_TITLE, elem_id="title", padding=False)
        with gr.Row(elem_id="work"):
            with gr.Column(scale=0, min_width=300, elem_id="controls"):
                with gr.Column(elem_id="choose"):
                    _add_choice(gr, ui, models)
                with gr.Column(elem_id="panel", visible=False) as ui["panel"]:
                    _add_panel(gr, ui, next(iter(models.values())).info)
            with gr.Column(elem_id="stage", visible=False) as ui["stage"]:
                _add_stage(gr, ui)
        connect(Actions(gr, ui, storage, models, max_pixels, max_memory, slot), page)
    return page


def _add_choice(gr: Any, ui: dict[str, Any], models: Mapping[str, Restorer]) -> None:
    """What to do, and with which photos."""
    ui["task"] = task_field(gr, models)
    ui["photos"] = photo_field(gr)
    ui["error"] = gr.HTML("", elem_id="error", padding=False)


def _add_panel(gr: Any, ui: dict[str, Any], info: RestorerInfo) -> None:
    """The settings, the buttons and the download."""
    with gr.Column(elem_id="settings"):
        with gr.Column(elem_id="bokeh", visible="guide" in info.needs) as ui["bokeh"]:
            ui.update(bokeh_fields(gr))
        ui["strength"] = strength_field(gr, info)
        has_advanced = any(visible_fields(info).values())
        with gr.Accordion("Advanced", open=False, visible=has_advanced) as ui["advanced"]:
            ui.update(advanced_fields(gr, info))
        ui.update(format_fields(gr))
    ui["restore"] = gr.Button("Restore in full size", variant="primary", elem_id="restore")
    ui["cancel"] = gr.Button("Cancel", elem_id="cancel", visible=False)
    ui["status"] = gr.HTML("", elem_id="status", padding=False)
    for name in ("download", "download_map"):
        ui[name] = gr.DownloadButton(variant="primary", visible=False, elem_id=name)


def _add_stage(gr: Any, ui: dict[str, Any]) -> None:
    """The photo and the result."""
    # No other buttons: one saves the reduced copy, another uploads it to a public site.
    picture = {"type": "filepath", "interactive": False, "buttons": ["fullscreen"]}
    ui["compare"] = gr.ImageSlider(
        label="Before and after", elem_id="compare", max_height=720, **picture
    )
    ui["caption"] = gr.HTML("", elem_id="caption", padding=False)
    ui["depth"] = gr.Image(
        label="Depth map: click on what should be sharp",
        elem_id="depth",
        visible=False,
        height=240,
        **picture,
    )
    ui["map"] = gr.Image(label=_MAP, elem_id="map", visible=False, **picture)
