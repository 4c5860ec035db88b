"""The fields of models that predict haze: they change the shown picture, without a restoration."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from refusion.app.haze import HazeShelf
from refusion.app.storage import Storage
from refusion.app.values import checked_haze, checked_options, offered_model
from refusion.batch.options import RestoreOptions
from refusion.restorers import Restorer, RestorerInfo

_PREVIEW = "Preview. Restore writes the file in full quality."


def connect_sliders(
    gr: Any,
    models: Mapping[str, Restorer],
    inputs: list[Any],
    advanced: Any,
    outputs: list[Any],
    storage: Storage,
    shelf: HazeShelf,
) -> None:
    """Connect the fields that need no restoration.

    Args:
        gr: the module Gradio.
        models: restorers by name.
        inputs: all input components, in the order of the arguments of a restoration.
        advanced: component that contains the fields that only models that predict haze have.
        outputs: components for the comparison, the files and the status.
        storage: contains the pictures.
        shelf: haze of the last photo of each tab.
    """
    photo, task, _, strength, _, _, distance, exposure = inputs
    shared = {"preprocess": False, "api_visibility": "private"}
    task.change(_on_task(gr, models), [task, strength], [strength, advanced], queue=False, **shared)
    gr.on(
        # The last two drop the haze of the photo before.
        [strength.input, distance.input, exposure.input, photo.change, task.change],
        _on_move(gr, models, storage, shelf),
        inputs,
        outputs,
        concurrency_limit=1,
        trigger_mode="always_last",
        show_progress="hidden",
        **shared,
    )


def strength_field(info: RestorerInfo) -> dict[str, Any]:
    """Limits and explanation of the strength for a model, as arguments of a slider.

    Args:
        info: description of the restorer.
    """
    low, high = info.strengths
    text = "0: the photo, 1: the restored photo"
    more = "; below 0 adds haze, above 1 removes more" if info.predicts_haze else ""
    return {"minimum": low, "maximum": high, "info": text + more}


def haze_key(path: str, model: str, options: RestoreOptions) -> tuple[object, ...]:
    """Everything that the haze of a photo depends on; see `KeptHaze`.

    Args:
        path: file of the photo.
        model: name of the model.
        options: options of the restoration.
    """
    return path, model, options.steps, options.seed


def _on_move(
    gr: Any, models: Mapping[str, Restorer], storage: Storage, shelf: HazeShelf
) -> Callable[..., Iterator[Any]]:
    """Function of the fields that only change how much of the kept haze is removed."""

    def move(
        photo: object,
        task: object,
        steps: object,
        strength: object,
        seed: object,
        samples: object,
        distance: object,
        exposure: object,
        request: Any,
    ) -> Iterator[Any]:
        name = offered_model(models, task)
        info = models[name].info
        haze = checked_haze(distance, exposure, info)
        # A strength out of range: the task has just changed, and the strength changes next.
        limits = (-math.inf, math.inf)
        options = checked_options(steps, strength, seed, samples, 1, limits, haze)
        path = photo["path"] if isinstance(photo, dict) else ""
        kept = shelf.take(request.session_hash, haze_key(path, name, options))
        if kept is None or not info.predicts_haze:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        storage.make_room()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            files = kept.write_preview(options.strength, haze, Path(folder))
            yield tuple(map(str, files)), None, _PREVIEW

    move.__annotations__["request"] = gr.Request
    return move


def _on_task(gr: Any, models: Mapping[str, Restorer]) -> Callable[..., tuple[Any, Any]]:
    """Function of the list of tasks: fits the fields to the model."""

    def fit(task: object, strength: object) -> tuple[Any, Any]:
        info = models[offered_model(models, task)].info
        low, high = info.strengths
        is_valid = isinstance(strength, (int, float)) and low <= strength <= high
        slider = gr.Slider(**strength_field(info), value=strength if is_valid else 1)
        return slider, gr.Accordion(visible=info.predicts_haze)

    return fit
