"""The page: what is on it, and what its button does."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.app.restoring import Restored, restore_photo
from refusion.batch.jobs import RestoreOptions, sampling_warning
from refusion.errors import ConfigError, RefusionError
from refusion.images.io import IMAGE_SUFFIXES
from refusion.restorers import Restorer

if TYPE_CHECKING:  # Gradio is an extra
    import gradio

KEPT_S = 3600
"""Seconds that uploads and results are kept while the page is served."""
MAX_SAMPLES = 64
_EVERY_S = 600  # between two looks for files that are older
_MAP = "Uncertainty: black where the samples agree, white where they differ by 0.1 of full scale"
_ABOUT = """# Refusion
Photos are restored on the machine that serves this page, and stay there. The file to download is
of full size and has the photo's format, bit depth, colour profile and EXIF; what is shown here is a
reduced copy."""


def build_page(models: Mapping[str, Restorer], max_pixels: int) -> gradio.Blocks:
    """The page, not yet served.

    Args:
        models: restorers by the words to choose them with, the first one chosen.
        max_pixels: the largest photo that is decoded.
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
                said = gr.Markdown(elem_id="said")
            with gr.Column(scale=3):
                outputs = _outputs(gr)
        # One photo at a time: memory is bounded for each.
        button.click(
            _on_click(gr, models, max_pixels),
            inputs,
            [*outputs, said],
            concurrency_limit=1,
            api_visibility="private",
        )
    return page


def _inputs(gr: Any, names: list[str]) -> list[Any]:
    """Photo, task, steps, strength, seed, samples."""
    return [
        gr.File(label="Photo", file_types=list(IMAGE_SUFFIXES), elem_id="photo", height=160),
        gr.Dropdown(names, value=names[0], label="Task", elem_id="task"),
        gr.Number(0, precision=0, minimum=0, label="Steps", info="0: the model's own"),
        gr.Slider(0, 1, 1, step=0.05, label="Strength", info="0 the photo, 1 its restoration"),
        gr.Number(0, precision=0, label="Seed", info="of the noise"),
        gr.Slider(
            1, MAX_SAMPLES, 1, step=1, label="Samples", info="from 2 on: their mean, and a map"
        ),
    ]


def _outputs(gr: Any) -> list[Any]:
    """Slider, files, map."""
    # Without the other buttons: one would save the reduced copy, one upload it to a public site.
    picture = {"type": "filepath", "interactive": False, "buttons": ["fullscreen"]}
    return [
        gr.ImageSlider(label="Before, after", elem_id="slider", max_height=800, **picture),
        gr.File(label="Full quality", file_count="multiple", interactive=False, elem_id="files"),
        gr.Image(label=_MAP, elem_id="map", visible=False, **picture),
    ]


def _on_click(
    gr: Any, models: Mapping[str, Restorer], max_pixels: int
) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What the button does: one photo through the same jobs as those of `tiled_infer.py`."""

    def restore(
        photo: str | None,
        task: str,
        steps: float | None,
        strength: float,
        seed: float | None,
        samples: float,
        progress: Any = gr.Progress(),  # noqa: B008 - how Gradio is asked for one
    ) -> Iterator[tuple[Any, ...]]:
        # Gradio copies what is handed to it, and deletes the copies after a time.
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
                if doubt := sampling_warning(restorer.info, options):
                    gr.Warning(doubt)
                done = restore_photo(photo, task, restorer, options, Path(folder), progress)
            except RefusionError as error:
                # Shown as HTML, and file names are the user's.
                text = html.escape(" ".join(str(error).split()))
                raise gr.Error(text, duration=None, print_exception=False) from error
            yield _shown(gr, done)

    return restore


def _chosen(models: Mapping[str, Restorer], photo: str | None, task: str) -> Restorer:
    if photo is None:
        raise ConfigError("no photo yet: drop one, or click on the box to choose one")
    if task not in models:
        raise ConfigError(f"task: expected one of {', '.join(models)}, got '{task}'")
    return models[task]


def _shown(gr: Any, done: Restored) -> tuple[Any, ...]:
    """Values of the outputs and what is said of them."""
    (size,), seconds = done.outcome.sizes, sum(done.outcome.seconds.values())
    return (
        (str(done.before), str(done.after)),
        [str(path) for path in done.files],
        gr.Image(None if done.map is None else str(done.map), visible=done.map is not None),
        "{}x{} pixels in {:.1f} s".format(*size, seconds),
    )
