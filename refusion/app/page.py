"""The content of the page, and the function of its button."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.app.restoring import Restored, restore_photo
from refusion.batch.jobs import RestoreOptions, sampling_warning
from refusion.errors import ConfigError, RefusionError
from refusion.images.listing import IMAGE_SUFFIXES
from refusion.restorers import Restorer

if TYPE_CHECKING:  # Gradio is an extra
    import gradio

KEPT_S = 3600
"""Seconds after which uploads and results are deleted while the page is served."""
MAX_SAMPLES = 64
_EVERY_S = 600  # seconds between two deletions of old files
_MAP = "Uncertainty (standard deviation of the samples): black 0, white 0.1 of full scale"
_ABOUT = """# Refusion
Photos are restored on the machine that serves this page and are not sent anywhere else. The page
shows reduced copies. The file to download has the full size and the format, bit depth, colour
profile and EXIF data of the photo."""


def build_page(models: Mapping[str, Restorer], max_pixels: int) -> gradio.Blocks:
    """Build the page; `launch` of the result serves it.

    Args:
        models: restorers by the names in the list of tasks; the first one is the default.
        max_pixels: larger photos are refused before they are decoded.
    """
    import gradio as gr

    page = gr.Blocks(
        title="Refusion", analytics_enabled=False, delete_cache=(_EVERY_S, KEPT_S), fill_width=True
    )
    with page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(scale=1):
                inputs = _inputs(gr, list(models))
                button = gr.Button("Restore", variant="primary", elem_id="restore")
                status = gr.Markdown(elem_id="status")
            with gr.Column(scale=3):
                outputs = _outputs(gr)
        # One photo at a time, because the memory limit is per photo.
        button.click(
            _on_click(gr, models, max_pixels),
            inputs,
            [*outputs, status],
            concurrency_limit=1,
            api_visibility="private",
        )
    return page


def _inputs(gr: Any, names: list[str]) -> list[Any]:
    """Input components: photo, task, steps, strength, seed, samples."""
    return [
        gr.File(label="Photo", file_types=list(IMAGE_SUFFIXES), elem_id="photo", height=160),
        gr.Dropdown(names, value=names[0], label="Task", elem_id="task"),
        gr.Number(0, precision=0, minimum=0, label="Steps", info="0: default of the model"),
        gr.Slider(0, 1, 1, step=0.05, label="Strength", info="0: the photo, 1: the restored photo"),
        gr.Number(0, precision=0, label="Seed", info="Seed of the random noise"),
        gr.Slider(
            1,
            MAX_SAMPLES,
            1,
            step=1,
            label="Samples",
            info="2 or more: mean of the samples and an uncertainty map",
        ),
    ]


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
    gr: Any, models: Mapping[str, Restorer], max_pixels: int
) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """Function of the button: restores one photo with the same code as `tiled_infer.py`."""

    def restore(
        photo: str | None,
        task: str,
        steps: float | None,
        strength: float,
        seed: float | None,
        samples: float,
        progress: Any = gr.Progress(),  # noqa: B008 - required by Gradio
    ) -> Iterator[tuple[Any, ...]]:
        # Gradio copies the returned files and deletes the copies later.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                restorer = _chosen(models, photo, task)
                options = RestoreOptions(
                    steps=int(steps or 0) or None,
                    seed=int(seed or 0),
                    strength=strength,
                    samples=int(samples),
                    max_pixels=max_pixels,
                )
                if warning := sampling_warning(restorer.info, options):
                    gr.Warning(warning)
                done = restore_photo(photo, task, restorer, options, Path(folder), progress)
            except RefusionError as error:
                # The message is shown as HTML and can contain file names of the user.
                text = html.escape(" ".join(str(error).split()))
                raise gr.Error(text, duration=None, print_exception=False) from error
            yield _shown(gr, done)

    return restore


def _chosen(models: Mapping[str, Restorer], photo: str | None, task: str) -> Restorer:
    if photo is None:
        raise ConfigError("no photo: drop a file on the box, or click on the box to choose a file")
    if task not in models:
        raise ConfigError(f"task: expected one of {', '.join(models)}, got '{task}'")
    return models[task]


def _shown(gr: Any, done: Restored) -> tuple[Any, ...]:
    """Values of the output components and the status line."""
    (size,), seconds = done.outcome.sizes, sum(done.outcome.seconds.values())
    return (
        (str(done.before), str(done.after)),
        [str(path) for path in done.files],
        gr.Image(None if done.map is None else str(done.map), visible=done.map is not None),
        "{}x{} pixels in {:.1f} s".format(*size, seconds),
    )
