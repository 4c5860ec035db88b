"""The plug-in for GIMP 2.10 on Linux, which has no Python of its own: ctypes calls libgimp."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from ctypes import c_char_p, c_double, c_int, c_uint, c_void_p
from pathlib import Path

from gimp2_dialogue import ask
from gimp2_library import Definition, Library, Parameter, PlugIn, Query, Run
from restoration import (
    TASKS,
    RestorationError,
    Settings,
    restore_file,
    temporary_folder,
)

PROCEDURE = b"plug-in-refusion"
_MENU = b"<Image>/Filters/Enhance"
_PROGRAM_KEY = b"refusion-program"  # in the file gimprc
_LAST_KEY = PROCEDURE  # last values of this session

# Values of enumerations of libgimp 2.10.
_INTERACTIVE, _NONINTERACTIVE, _LAST_VALUES = range(3)
_ERROR, _SUCCESS, _CANCEL = 0, 3, 4
_INT32, _FLOAT, _STRING, _IMAGE, _DRAWABLE, _STATUS = 0, 3, 4, 13, 16, 21
_PLUGIN, _RGB, _GRAY, _U16_GAMMA = 1, 0, 1, 250


class Refusion:
    """The plug-in: registers the procedure and runs it."""

    def __init__(self) -> None:
        self._gimp = Library("libgimp-2.0.so.0")
        self._color = Library("libgimpcolor-2.0.so.0")
        self._returned = (Parameter * 2)()  # GIMP reads it after `run` has returned

    def query(self) -> None:
        """Register the procedure."""
        definitions = (Definition * 6)(
            (_INT32, b"run-mode", b"The run mode"),
            (_IMAGE, b"image", b"Input image"),
            (_DRAWABLE, b"drawable", b"Layer to restore"),
            (_STRING, b"task", ", ".join(TASKS).encode()),
            (_FLOAT, b"strength", b"Strength in percent, 0 to 100"),
            (_STRING, b"program", b"Path of the program refusion, or its name"),
        )
        self._gimp(
            "gimp_install_procedure",
            PROCEDURE,
            b"Restore the layer with refusion, result as a new layer",
            b"Saves the layer as a TIFF of 16 bits, runs refusion and loads the result.",
            b"Refusion contributors",
            b"MIT",
            b"2026",
            b"Restore with re_fusion...",
            b"RGB*, GRAY*",
            c_int(_PLUGIN),
            c_int(len(definitions)),
            c_int(0),
            definitions,
            None,
            result=None,
        )
        self._gimp("gimp_plugin_menu_register", PROCEDURE, _MENU)

    def run(
        self, name: bytes, count: int, values: Sequence, number: Sequence, returned: Sequence
    ) -> None:
        """Run the procedure; arguments as in `GimpRunProc`."""
        status, message = _SUCCESS, ""
        try:
            image, drawable = values[1].value.integer, values[2].value.integer
            settings = self._settings(values[0].value.integer, values)
            if settings is None:
                status = _CANCEL
            else:
                self._restore(image, drawable, settings)
        except RestorationError as error:
            status, message = _ERROR, str(error)
        except Exception as error:  # an exception cannot pass through libgimp
            status, message = _ERROR, f"refusion: {type(error).__name__}: {error}"
        self._returned[0].kind, self._returned[0].value.integer = _STATUS, status
        self._returned[1].kind = _STRING
        self._returned[1].value.text = self._text = message.encode()
        number[0], returned[0] = 2 if message else 1, self._returned

    def _settings(self, mode: int, values: Sequence) -> Settings | None:
        """The settings of the caller, of the last call or of the dialogue; None after Cancel."""
        if mode == _NONINTERACTIVE:
            task, program = ((values[index].value.text or b"").decode() for index in (3, 5))
            return Settings(task, values[4].value.real, program)
        last = self._last_settings()
        if mode == _LAST_VALUES:
            return last
        chosen = ask(PROCEDURE, last)
        if chosen is not None:
            stored = f"{chosen.task} {chosen.strength:g}".encode()
            self._gimp("gimp_procedural_db_set_data", _LAST_KEY, stored, c_uint(len(stored)))
            self._gimp("gimp_gimprc_set", _PROGRAM_KEY, chosen.program.encode())
        return chosen

    def _last_settings(self) -> Settings:
        """The settings of the last call in this session; the program is kept in gimprc."""
        program = self._gimp("gimp_gimprc_query", _PROGRAM_KEY, result=c_char_p)
        program = program.decode(errors="replace") if program else Settings.program
        size = self._gimp("gimp_procedural_db_get_data_size", _LAST_KEY)
        if not size:
            return Settings(program=program)
        stored = ctypes.create_string_buffer(size)
        self._gimp("gimp_procedural_db_get_data", _LAST_KEY, stored)
        task, strength = stored.raw.decode().split()
        return Settings(task, float(strength), program)

    def _restore(self, image: int, drawable: int, settings: Settings) -> None:
        """Restore a layer; the result is a new layer above it, and one step of undo.

        Raises:
            RestorationError: the command failed, or a file could not be written or read.
        """
        if not self._gimp("gimp_item_is_layer", drawable):
            raise RestorationError("refusion: the channel or mask is active; choose a layer")
        with temporary_folder() as folder:
            source, target = Path(folder, "layer.tif"), Path(folder, "restored.tif")
            arguments = settings.command_line(source, target)
            self._save(image, drawable, source)
            self._gimp("gimp_progress_init", f"{TASKS[settings.task]} (refusion)".encode())
            restore_file(arguments, Path(folder), self._show)
            self._gimp("gimp_image_undo_group_start", image)
            try:
                self._add_layer(image, drawable, target, settings.layer_name)
            finally:
                self._gimp("gimp_image_undo_group_end", image)
        self._gimp("gimp_progress_end")
        self._gimp("gimp_displays_flush", result=None)

    def _show(self, share: float | None) -> None:
        """Move the progress bar."""
        if share is None:
            self._gimp("gimp_progress_pulse")
        else:
            self._gimp("gimp_progress_update", c_double(share))

    def _save(self, image: int, drawable: int, path: Path) -> None:
        """Write the pixels of a layer as a TIFF of 16 bits with the profile of the image."""
        call = self._gimp
        size = (call(f"gimp_drawable_{side}", drawable) for side in ("width", "height"))
        mode = _GRAY if call("gimp_drawable_is_gray", drawable) else _RGB
        copy = call("gimp_image_new_with_precision", *size, mode, _U16_GAMMA)
        try:
            profile = c_void_p(call("gimp_image_get_color_profile", image, result=c_void_p))
            if profile and self._color("gimp_color_profile_is_linear", profile):
                # The models know photos with a gamma. GIMP converts the result back.
                name = "gimp_color_profile_new_srgb_trc_from_color_profile"
                profile = c_void_p(self._color(name, profile, result=c_void_p))
            if profile:
                call("gimp_image_set_color_profile", copy, profile)
            layer = call("gimp_layer_new_from_drawable", drawable, copy)
            call("gimp_image_insert_layer", copy, layer, 0, 0)
            file = os.fsencode(path)
            if not call("gimp_file_save", _NONINTERACTIVE, copy, layer, file, file):
                raise RestorationError(f"refusion: GIMP could not write {path}")
        finally:
            call("gimp_image_delete", copy)

    def _add_layer(self, image: int, drawable: int, path: Path, name: str) -> None:
        """Load a file as a new layer above ``drawable``."""
        call = self._gimp
        layer = call("gimp_file_load_layer", _NONINTERACTIVE, image, os.fsencode(path))
        if layer < 0:
            raise RestorationError(f"refusion: GIMP could not read {path}")
        call("gimp_item_set_name", layer, name.encode())
        x, y = c_int(), c_int()
        call("gimp_drawable_offsets", drawable, ctypes.byref(x), ctypes.byref(y))
        call("gimp_layer_set_offsets", layer, x, y)
        parent = call("gimp_item_get_parent", drawable)
        position = call("gimp_image_get_item_position", image, drawable)
        call("gimp_image_insert_layer", image, layer, max(0, parent), position)


def main(arguments: Sequence[str]) -> None:
    """Connect to GIMP and wait for its calls.

    Args:
        arguments: of the process, as GIMP gives them.
    """
    plug_in = Refusion()
    callbacks = PlugIn(None, None, Query(plug_in.query), Run(plug_in.run))
    texts = (c_char_p * len(arguments))(*map(os.fsencode, arguments))
    library = ctypes.CDLL("libgimp-2.0.so.0")
    raise SystemExit(library.gimp_main(ctypes.byref(callbacks), len(arguments), texts))
