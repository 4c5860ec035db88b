"""Connects the functions of `Actions` to the components, checks what is sent, and shows errors."""

from __future__ import annotations

import functools
import html
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from refusion.app.actions import Actions, Update
from refusion.app.fields import FIELDS
from refusion.app.slot import StoppedError
from refusion.app.values import checked_values
from refusion.errors import one_line
from refusion.failures import describe_failure, is_debugging

logger = logging.getLogger(__name__)

_MOVED = ("strength", "distance", "exposure", "noise_level", "aperture", "steps", "seed")
_WAITING = 10  # restorations that wait for the running one; more wait in the queue of Gradio
_PRIVATE = {"api_visibility": "private", "preprocess": False}  # the actions check all values


def connect(actions: Actions, page: Any) -> None:
    """Connect all fields and buttons of the page.

    Args:
        actions: the functions and the components.
        page: the page.
    """
    gr, ui, served = actions.gr, actions.ui, actions.storage.served
    inputs, outputs = [ui[name] for name in FIELDS], list(ui.values())

    def listen(triggers: list[Any], run: Callable[..., Iterator[Update]]) -> None:
        gr.on(
            triggers,
            _handler(gr, actions, run, "error", served),
            inputs,
            outputs,
            concurrency_limit=3,  # one preview runs at a time, see `Slot`
            trigger_mode="always_last",
            show_progress="hidden",
            **_PRIVATE,
        )

    ui["restore"].click(
        _restoration(gr, actions, served),
        inputs,
        outputs,
        concurrency_limit=_WAITING,  # one runs at a time, see `Slot`
        show_progress="full",
        show_progress_on=ui["status"],
        **_PRIVATE,
    )
    # `Slot` stops the running and the waiting ones. Gradio would wait a minute for a running one.
    ui["cancel"].click(_cancel(gr, actions), None, outputs, queue=False, **_PRIVATE)
    listen([ui["photos"].change], actions.show_photos)
    listen([ui["task"].input], actions.show_task)
    listen([ui["maps"].change], actions.show_maps)
    moves = [ui[name].input for name in _MOVED] + [ui["focus"].submit, ui["focus"].blur]
    listen(moves, actions.show_preview)
    listen([ui["format"].input, ui["quality"].input], actions.show_format)
    ui["photos"].select(
        _selection(gr, actions, served),
        inputs,
        outputs,
        trigger_mode="always_last",
        show_progress="hidden",
        **_PRIVATE,
    )
    page.process_api = _checked(gr, page.process_api, served)


def _handler(
    gr: Any, actions: Actions, run: Callable[..., Iterator[Update]], place: str, served: Path
) -> Callable[..., Iterator[Update]]:
    """A function for Gradio, from one that takes the session and the values by name."""

    def handle(request: Any, *values: object) -> Iterator[Update]:
        updates = run(request.session_hash, dict(zip(FIELDS, values, strict=True)))
        yield from _reported(actions, updates, place, served)

    handle.__annotations__["request"] = gr.Request  # Gradio passes it by its type
    return handle


def _restoration(gr: Any, actions: Actions, served: Path) -> Callable[..., Iterator[Update]]:
    def restore(
        request: Any,
        progress: Any = gr.Progress(),  # noqa: B008 - required by Gradio
        *values: object,
    ) -> Iterator[Update]:
        named = dict(zip(FIELDS, values, strict=True))

        def report(share: float, stage: str) -> None:
            progress(share, stage)

        updates = actions.restore(request.session_hash, named, report)
        yield from _reported(actions, updates, "status", served)

    restore.__annotations__["request"] = gr.Request
    return restore


def _selection(gr: Any, actions: Actions, served: Path) -> Callable[..., Iterator[Update]]:
    def choose(request: Any, event: Any, *values: object) -> Iterator[Update]:
        named = dict(zip(FIELDS, values, strict=True))
        updates = actions.choose_photo(request.session_hash, named, event.index)
        yield from _reported(actions, updates, "error", served)

    choose.__annotations__ |= {"request": gr.Request, "event": gr.SelectData}
    return choose


def _cancel(gr: Any, actions: Actions) -> Callable[..., Update]:
    def cancel(request: Any) -> Update:
        return actions.cancel(request.session_hash)

    cancel.__annotations__["request"] = gr.Request
    return cancel


def _reported(
    actions: Actions, updates: Iterator[Update], place: str, served: Path
) -> Iterator[Update]:
    """The updates; an error becomes one line in the component `place`."""
    try:
        yield from updates
    except StoppedError:
        yield actions.cancelled()
    except Exception as error:
        yield actions.failed(place, _error_line(error, served))


def _error_line(error: Exception, served: Path) -> str:
    """One line for the user; errors of the program are shown on the terminal, too."""
    failure = describe_failure(error)
    if failure.is_internal:
        logger.warning("%s", failure.text, exc_info=error if is_debugging() else None)
    # The user does not know the folders of the uploads.
    return re.sub(re.escape(str(served)) + "/[^/]+/", "", failure.text)


def _checked(
    gr: Any, process: Callable[..., Awaitable[dict[str, Any]]], uploads: Path
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Wrap the function that handles an event: check the values, and make errors one line.

    Only programs that send values in the place of the page get these errors.
    """

    @functools.wraps(process)
    async def wrapper(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            are_files = [isinstance(field, gr.File) for field in kwargs["block_fn"].inputs]
            sent = checked_values(kwargs["inputs"], are_files, uploads)
            return await process(*args, **(kwargs | {"inputs": sent}))
        except StoppedError as error:
            raise gr.Error("The restoration was stopped", print_exception=False) from error
        except Exception as error:
            text = (
                str(error.message) if isinstance(error, gr.Error) else _error_line(error, uploads)
            )
        # The message is shown as HTML and can contain file names of the user.
        raise gr.Error(html.escape(one_line(text)), duration=10, print_exception=False)

    return wrapper
