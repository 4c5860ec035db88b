"""What the page does: it shows photos and previews, restores and cancels.

Each function of `Actions` yields the new values of components, so that the page changes while the
function runs. `events` connects them to the components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from refusion.app.fields import fitting_strength, quality_field, strength_field, visible_fields
from refusion.app.haze import KeepingRestorer, KeptHaze
from refusion.app.maps import disparity_maps, lacks_map, write_map_picture
from refusion.app.messages import note_html, stage_text, summary_html
from refusion.app.preview import Kept, ShownPhoto, preview_key, run_preview
from refusion.app.restoring import Restored, restore_photo
from refusion.app.series import restore_series
from refusion.app.slot import Slot
from refusion.app.tabs import TabStore
from refusion.app.updates import Update, Updates
from refusion.app.values import Settings, checked_settings, offered_model, uploaded
from refusion.app.words import words_of
from refusion.batch.options import RestoreOptions, sampling_warning
from refusion.errors import ConfigError
from refusion.images.photo import Photo
from refusion.restorers import Restorer

Values = Mapping[str, object]
"""Values of the fields by name, from `values.checked_values`."""
Report = Callable[[float, str], None]
"""Called with the completed fraction, 0..1, and the stage."""

_NO_MAP = "Add a depth map, in which nearer parts are brighter. This photo has none of its own."


@dataclass(frozen=True)
class Actions(Updates):
    """The functions of the fields and buttons.

    Attributes:
        models: restorers by name.
        max_pixels: larger photos are refused before they are decoded.
        max_memory: maximum number of bytes of the process; None for no limit.
        slot: runs the restorations and the previews.
        tabs: what each browser tab shows.
    """

    models: Mapping[str, Restorer]
    max_pixels: int
    max_memory: int | None
    slot: Slot
    tabs: TabStore = field(default_factory=TabStore)

    def show_photos(self, session: str, values: Values) -> Iterator[Update]:
        """Show a photo at once, and then its preview; without a photo hide all but the drop zone.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
        """
        has_photos = bool(uploaded(values["photos"]))
        if has_photos:
            settings = self._settings(values)
            shown = self._shown(session, self._chosen(session, settings))
        parts = {self.ui[name]: self.gr.update(visible=has_photos) for name in ("panel", "stage")}
        parts = self.clear(parts)
        if not has_photos:
            yield parts
            return
        parts[self.ui["compare"]] = self.gr.update(label=self._chosen(session, settings).name)
        picture = self._part(shown, settings)
        yield from self.compared(picture, picture, parts, "The preview is computed")
        yield from self._draw_map(session, values)
        yield from self.show_preview(session, values)

    def choose_photo(self, session: str, values: Values, index: object) -> Iterator[Update]:
        """Show another photo of the list.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
            index: number of the photo in the list, from 0.
        """
        photos = uploaded(values["photos"])
        if isinstance(index, int) and 0 <= index < len(photos):
            self.tabs.put(session, "chosen", None, photos[index])
            yield from self.show_photos(session, values)
        else:
            yield {self.ui["error"]: ""}

    def show_preview(self, session: str, values: Values) -> Iterator[Update]:
        """Show what the settings do to a reduced copy of the photo, or to a part of it.

        The network runs only if something has changed that its result depends on.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
        """
        cleared = self.clear({})
        if not uploaded(values["photos"]):
            yield cleared
            return
        settings = self._settings(values)
        path = self._chosen(session, settings)
        info = self.models[settings.name].info
        if "guide" in info.needs and lacks_map(path, settings):
            picture = self._part(self._shown(session, path), settings)
            yield from self.compared(picture, picture, cleared, _NO_MAP)
            return
        options = self._options(path, settings)
        key = path, settings.name, preview_key(info, options)
        kept = self.tabs.get(session, "file", key) or self.tabs.get(session, "preview", key)
        if kept is None:
            yield cleared | self.caption("The preview is computed")
            kept = self._run_preview(session, path, settings, options)
            self.tabs.put(session, "preview", key, kept)
        is_part = words_of(settings.name).detail and max(self._shown(session, path).size) > max(
            kept.photo.samples.shape
        )
        text = "Preview: the middle of the photo at 100 %" if is_part else "Preview"
        yield from self.compared(kept.photo, kept.picture(options), cleared, text)

    def show_maps(self, session: str, values: Values) -> Iterator[Update]:
        """Draw the depth map of the photo, and show the preview.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
        """
        yield from self._draw_map(session, values)
        yield from self.show_preview(session, values)

    def show_task(self, session: str, values: Values) -> Iterator[Update]:
        """Show the fields of the chosen task, and its preview.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
        """
        name = offered_model(self.models, values["task"])
        info, ui, gr = self.models[name].info, self.ui, self.gr
        visible = visible_fields(info)
        is_bokeh = "guide" in info.needs
        update = {ui[key]: gr.update(visible=shown) for key, shown in visible.items()}
        update[ui["advanced"]] = gr.update(visible=any(visible.values()))
        update[ui["bokeh"]] = gr.update(visible=is_bokeh)
        strength = fitting_strength(info, values["strength"])
        update[ui["strength"]] = strength_field(gr, info, strength)
        update[ui["task"]] = gr.update(info=words_of(name).help)
        yield update
        values = {**values, "strength": strength}
        yield from self._draw_map(session, values)
        yield from self.show_preview(session, values)

    def show_format(self, session: str, values: Values) -> Iterator[Update]:
        """Show the field for the quality if the format has one; an old download disappears.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
        """
        quality = quality_field(self.gr, values["format"], values["quality"])
        yield self.clear({self.ui["quality"]: quality})

    def restore(self, session: str, values: Values, progress: Report) -> Iterator[Update]:
        """Restore the photos in full size, and offer the files.

        Args:
            session: identifies the browser tab.
            values: values of the fields.
            progress: shows the progress.
        """
        settings = self._settings(values)
        if not settings.photos:
            raise ConfigError("no photo: drop a file on the box, or click on it to choose a file")
        yield self.clear(self.buttons(is_running=True))
        with self.folder() as folder:
            with self.slot.restoring(session) as check:

                def report(share: float, stage: str) -> None:
                    check()
                    progress(share, stage_text(stage))

                if len(settings.photos) == 1:
                    update = self._one(session, settings, folder, report)
                else:
                    update = self._series(settings, folder, report)
            yield self.buttons(is_running=False) | update

    def cancel(self, session: str) -> Update:
        """Stop the restoration of a browser tab, which then says that it was cancelled.

        Args:
            session: identifies the browser tab.
        """
        self.slot.stop(session)
        return {self.ui["cancel"]: self.gr.update(visible=False)} | {
            self.ui["status"]: note_html("Cancelling")
        }

    def _one(self, session: str, settings: Settings, folder: Path, report: Report) -> Update:
        (path,), name = settings.photos, settings.name
        options, restorer = self._options(path, settings), self.models[name]
        key = path, name, preview_key(restorer.info, options)
        if keeps := restorer.info.predicts_haze and options.samples == 1:
            restorer = KeepingRestorer(restorer, self.tabs.get(session, "file", key))
        done = restore_photo(path, name, restorer, options, folder, report, settings.suffix)
        if keeps and restorer.haze is not None:
            self.tabs.put(session, "file", key, KeptHaze.of(restorer.haze, done.shown))
        warning = sampling_warning(restorer.info, options)
        return self.results(done, done.files) | {
            self.ui["status"]: summary_html([done.outcome], (), warning)
        }

    def _series(self, settings: Settings, folder: Path, report: Report) -> Update:
        name = settings.name

        def restore(photo: Path, place: Path, own_report: Report) -> Restored:
            self.storage.make_room()
            options = self._options(photo, settings)
            model = self.models[name]
            return restore_photo(photo, name, model, options, place, own_report, settings.suffix)

        archive = folder / f"{len(settings.photos)}_photos_{name}.zip"
        series = restore_series(settings.photos, archive, restore, report)
        if not series.outcomes:
            raise ConfigError("; ".join(series.errors))
        warning = sampling_warning(self.models[name].info, settings.options)
        return self.results(series.first, [series.archive]) | {
            self.ui["status"]: summary_html(series.outcomes, series.errors, warning)
        }

    def _draw_map(self, session: str, values: Values) -> Iterator[Update]:
        """Show the depth map of the photo, if there is one and the task needs it."""
        depth, update = self.ui["depth"], self.gr.update
        if not uploaded(values["photos"]):
            yield {depth: update(visible=False)}
            return
        settings = self._settings(values)
        path = self._chosen(session, settings)
        needs_map = "guide" in self.models[settings.name].info.needs
        if not needs_map or lacks_map(path, settings):
            yield {depth: update(visible=False)}
            return
        with self.folder() as folder:
            file = write_map_picture(path, settings, folder)
            yield {depth: update(value=str(file), visible=True)}

    def _run_preview(
        self, session: str, path: Path, settings: Settings, options: RestoreOptions
    ) -> Kept:
        picture = self._part(self._shown(session, path), settings)
        with self.slot.restoring(session) as check:
            return run_preview(path, picture, self.models[settings.name], options, check)

    def _settings(self, values: Values) -> Settings:
        return checked_settings(values, self.models, self.max_pixels, self.max_memory)

    def _options(self, path: Path, settings: Settings) -> RestoreOptions:
        """Options for a photo, with its disparity map."""
        info = self.models[settings.name].info
        if "guide" not in info.needs:
            return settings.options
        rendered = info.family == "BokehRenderer"
        return replace(settings.options, maps=disparity_maps(path, settings, rendered=rendered))

    def _chosen(self, session: str, settings: Settings) -> Path:
        """The photo that is shown."""
        chosen = self.tabs.get(session, "chosen", None)
        return Path(chosen) if chosen and Path(chosen) in settings.photos else settings.photos[0]

    def _shown(self, session: str, path: Path) -> ShownPhoto:
        shown = self.tabs.get(session, "photo", path)
        if shown is None:
            shown = ShownPhoto.read(path, self.max_pixels, self.max_memory)
            self.tabs.put(session, "photo", path, shown)
        return shown

    def _part(self, shown: ShownPhoto, settings: Settings) -> Photo:
        return shown.detail if words_of(settings.name).detail else shown.whole
