"""New values of the components, which several actions share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion.app.messages import error_html, note_html, size_text
from refusion.app.preview import write_pictures
from refusion.app.restoring import Restored
from refusion.app.storage import Storage
from refusion.images.photo import Photo

Update = dict[Any, Any]
"""New values or properties of components."""


@dataclass(frozen=True)
class Updates:
    """The components, and what can happen to them.

    Attributes:
        gr: the module Gradio.
        ui: components by name.
        storage: contains the uploads and results.
    """

    gr: Any
    ui: Mapping[str, Any]
    storage: Storage

    def failed(self, name: str, text: str) -> Update:
        """Show an error.

        Args:
            name: name of the component for it.
            text: one line.
        """
        return self.clear(self.buttons(is_running=False)) | {self.ui[name]: error_html(text)}

    def cancelled(self) -> Update:
        """Say that the restoration was cancelled."""
        return self.buttons(is_running=False) | {self.ui["status"]: note_html("Cancelled")}

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for files; Gradio copies those that are yielded within the block."""
        self.storage.make_room()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def compared(self, before: Photo, after: Photo, more: Update, caption: str) -> Iterator[Update]:
        """Show two pictures of one size.

        Args:
            before: the photo.
            after: the restored photo.
            more: updates of other components, and properties of the comparison.
            caption: a line below the pictures.
        """
        with self.folder() as folder:
            files = tuple(map(str, write_pictures(before, after, folder)))
            compare = self.ui["compare"]
            if compare in more:
                files = more[compare] | {"value": files}
            yield more | {compare: files} | self.caption(caption)

    def caption(self, text: str) -> Update:
        """A line below the pictures.

        Args:
            text: the line.
        """
        return {self.ui["caption"]: note_html(text)}

    def clear(self, update: Update) -> Update:
        """Hide the results and errors of the settings before.

        Args:
            update: updates that come with it, and go before it.
        """
        gr, ui = self.gr, self.ui
        hidden = {ui[key]: gr.update(visible=False) for key in ("download", "download_map", "map")}
        shown = {ui["restore"]: gr.update(visible=True)}
        return {ui["error"]: "", ui["status"]: ""} | hidden | shown | update

    def buttons(self, *, is_running: bool) -> Update:
        """The button that starts a restoration, or the one that cancels it.

        Args:
            is_running: whether a restoration runs.
        """
        return {
            self.ui["restore"]: self.gr.update(visible=not is_running),
            self.ui["cancel"]: self.gr.update(visible=is_running),
        }

    def results(self, done: Restored, files: Sequence[Path]) -> Update:
        """Pictures and downloads.

        Args:
            done: the restored photo that is shown.
            files: the file to download, and its map of uncertainty if there is one.
        """
        gr, ui = self.gr, self.ui
        file, *maps = files
        update = {
            ui["compare"]: (str(done.before), str(done.after)),
            ui["caption"]: note_html("Result"),
            ui["restore"]: gr.update(visible=False),  # until a setting changes
            ui["download"]: _download(gr, file, "Download"),
            ui["map"]: gr.update(value=None if done.map is None else str(done.map),
                                 visible=done.map is not None),
        }  # fmt: skip
        for place in maps:
            update[ui["download_map"]] = _download(gr, place, "Download the map")
        return update


def _download(gr: Any, file: Path, verb: str) -> Any:
    label = f"{verb} {file.name} ({size_text(file.stat().st_size)})"
    return gr.update(value=str(file), label=label, visible=True)
