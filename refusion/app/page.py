"""The content of the page, and the function of its button."""

from __future__ import annotations

import functools
import html
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.app.haze import HazeShelf, KeepingRestorer, KeptHaze
from refusion.app.restoring import Restored, restore_photo
from refusion.app.sliders import connect_sliders, haze_key, strength_field
from refusion.app.slot import Slot, StoppedError
from refusion.app.storage import Storage
from refusion.app.values import (
    EXPOSURES,
    MAX_SAMPLES,
    MAX_SEED,
    MAX_STEPS,
    checked_haze,
    checked_options,
    checked_values,
    offered_model,
    uploaded_photo,
)
from refusion.batch.options import sampling_warning
from refusion.errors import one_line
from refusion.failures import describe_failure, is_debugging
from refusion.images.listing import IMAGE_SUFFIXES
from refusion.restorers import Restorer

if TYPE_CHECKING:  # Gradio is an extra
    import gradio

logger = logging.getLogger(__name__)

KEPT_S = 3600
"""Seconds after which uploads and results are deleted while the page is served."""
_EVERY_S = 600  # seconds between two deletions of old files
_MAP = "Uncertainty (standard deviation of the samples): black 0, white 0.1 of full scale"
_ABOUT = """# Refusion
Photos are restored on the machine that serves this page and are not sent anywhere else. The page
shows reduced copies. The file to download has the full size and the format, bit depth, colour
profile and EXIF data of the photo."""


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
    with page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(scale=1):
                inputs, advanced = _inputs(gr, models)
                with gr.Row():
                    button = gr.Button("Restore", variant="primary", elem_id="restore")
                    cancel = gr.Button("Cancel", elem_id="cancel")
                status = gr.Markdown(elem_id="status")
            with gr.Column(scale=3):
                outputs = _outputs(gr)
        private = {"api_visibility": "private"}
        shelf = HazeShelf()
        restoration = button.click(
            _on_click(gr, models, max_pixels, max_memory, slot, storage, shelf),
            inputs,
            [*outputs, status],
            concurrency_limit=1,
            preprocess=False,  # `restore` checks all values itself
            **private,
        )
        # Gradio removes waiting restorations of this tab from its queue; `Slot` stops the running.
        cancel.click(
            _on_cancel(gr, slot), None, status, cancels=[restoration], queue=False, **private
        )
        connect_sliders(gr, models, inputs, advanced, [*outputs[:2], status], storage, shelf)
    page.process_api = _checked(gr, page.process_api, storage.served)
    return page


def _inputs(gr: Any, models: Mapping[str, Restorer]) -> tuple[list[Any], Any]:
    """Input components, in the order of the arguments of `_on_click`, and the advanced fields."""
    whole = {"value": 0, "precision": 0, "minimum": 0}
    names, default = list(models), next(iter(models.values())).info
    fields = [
        gr.File(label="Photo", file_types=list(IMAGE_SUFFIXES), elem_id="photo", height=160),
        gr.Dropdown(names, value=names[0], label="Task", elem_id="task"),
        gr.Number(**whole, maximum=MAX_STEPS, label="Steps", info="0: default of the model"),
        gr.Slider(
            **strength_field(default), value=1, step=0.05, label="Strength", elem_id="strength"
        ),
        gr.Number(**whole, maximum=MAX_SEED, label="Seed", info="Seed of the random noise"),
        gr.Slider(
            1,
            MAX_SAMPLES,
            1,
            step=1,
            label="Samples",
            info="2 or more: mean of the samples and an uncertainty map",
        ),
    ]
    with gr.Accordion("Advanced", open=False, visible=default.predicts_haze) as advanced:
        fields += [
            gr.Slider(
                0,
                1,
                1,
                step=0.01,
                label="Distance",
                info="Haze is removed up to this share of its largest optical depth",
                elem_id="distance",
            ),
            gr.Dropdown(
                list(EXPOSURES),
                value="keep",
                label="Exposure",
                info="Photos get darker without haze; auto gives back half of the brightness",
                elem_id="exposure",
            ),
        ]
    return fields, advanced


def _outputs(gr: Any) -> list[Any]:
    """Output components: comparison, files, uncertainty map."""
    # No other buttons: one saves the reduced copy, another uploads it to a public site.
    picture = {"type": "filepath", "interactive": False, "buttons": ["fullscreen"]}
    return [
        gr.ImageSlider(label="Before and after", elem_id="slider", max_height=800, **picture),
        gr.File(label="Full quality", file_count="multiple", interactive=False, elem_id="files"),
        gr.Image(label=_MAP, elem_id="map", visible=False, **picture),
    ]


def _on_click(
    gr: Any,
    models: Mapping[str, Restorer],
    max_pixels: int,
    max_memory: int | None,
    slot: Slot,
    storage: Storage,
    shelf: HazeShelf,
) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """Function of the button: restores one photo with the same code as `tiled_infer.py`."""

    def restore(
        photo: object,
        task: object,
        steps: object,
        strength: object,
        seed: object,
        samples: object,
        distance: object,
        exposure: object,
        request: Any,
        progress: Any = gr.Progress(),  # noqa: B008 - required by Gradio
    ) -> Iterator[tuple[Any, ...]]:
        path, name = uploaded_photo(photo), offered_model(models, task)
        restorer = models[name]
        haze = checked_haze(distance, exposure, restorer.info)
        limits = restorer.info.strengths
        options = checked_options(steps, strength, seed, samples, max_pixels, limits, haze)
        options = replace(options, max_memory=max_memory)
        key = haze_key(path, name, options)
        if keeps := restorer.info.predicts_haze and options.samples == 1:
            restorer = KeepingRestorer(restorer, shelf.take(request.session_hash, key))
        if warning := sampling_warning(restorer.info, options):
            gr.Warning(html.escape(warning))
        # Gradio copies the returned files and deletes the copies later.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            with slot.restoring(request.session_hash) as check:

                def report(share: float, stage: str) -> None:
                    check()
                    progress(share, stage)

                storage.make_room()
                done = restore_photo(path, name, restorer, options, Path(folder), report)
            if keeps and restorer.haze is not None:
                kept = KeptHaze.of(key, restorer.haze, done.shown)
                shelf.put(request.session_hash, kept)
            yield _shown(gr, done)

    restore.__annotations__["request"] = gr.Request  # Gradio passes it by its type
    return restore


def _on_cancel(gr: Any, slot: Slot) -> Callable[..., str]:
    """Function of the button that stops the restoration of the browser tab."""

    def cancel(request: Any) -> str:
        slot.stop(request.session_hash)
        return "Cancelled"

    cancel.__annotations__["request"] = gr.Request
    return cancel


def _checked(
    gr: Any, process: Callable[..., Awaitable[dict[str, Any]]], uploads: Path
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Wrap the function that handles a click: check the values, and make errors one line.

    Errors of the program are shown on the terminal, too. Gradio would write the traceback of every
    error to the terminal, also of wrong values that a program sent instead of the page.
    """

    @functools.wraps(process)
    async def wrapper(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            are_files = [isinstance(field, gr.File) for field in kwargs["block_fn"].inputs]
            sent = checked_values(kwargs["inputs"], are_files, uploads)
            return await process(*args, **(kwargs | {"inputs": sent}))
        except StoppedError as error:
            raise gr.Error("The restoration was stopped", print_exception=False) from error
        except gr.Error as error:
            text = str(error.message)
        except Exception as error:
            failure = describe_failure(error)
            text = failure.text
            if failure.is_internal:
                logger.warning("%s", text, exc_info=error if is_debugging() else None)
        # The message is shown as HTML and can contain file names of the user.
        line = html.escape(one_line(text))
        raise gr.Error(line, duration=None, print_exception=False)

    return wrapper


def _shown(gr: Any, done: Restored) -> tuple[Any, ...]:
    """Values of the output components and the status line."""
    (size,), seconds = done.outcome.sizes, sum(done.outcome.seconds.values())
    return (
        (str(done.before), str(done.after)),
        [str(path) for path in done.files],
        gr.Image(None if done.map is None else str(done.map), visible=done.map is not None),
        "{}x{} pixels in {:.1f} s".format(*size, seconds),
    )
