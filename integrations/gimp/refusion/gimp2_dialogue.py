"""The dialogue of the plug-in for GIMP 2.10, in GTK 2."""

from __future__ import annotations

from ctypes import c_char_p, c_double, c_float, c_void_p

from gimp2_library import Library
from restoration import TASKS, Settings

_OK, _CANCEL, _RIGHT = -5, -6, 1  # values of enumerations of GTK 2


def ask(name: bytes, last: Settings) -> Settings | None:
    """Show the dialogue.

    Args:
        name: name of the procedure.
        last: initial values.

    Returns:
        The values when the user presses OK, or None.
    """
    Library("libgimpui-2.0.so.0")("gimp_ui_init", name, 0, result=None)
    gtk = Library("libgtk-x11-2.0.so.0")
    dialogue = _Dialogue(gtk, last)
    try:
        return dialogue.run()
    finally:
        dialogue.close()


class _Dialogue:
    """A GTK 2 dialogue with task, strength and program."""

    def __init__(self, gtk: Library, last: Settings) -> None:
        self._gtk = gtk
        self._window = self._make("gtk_dialog_new")
        self._set("gtk_window_set_title", self._window, b"Restore with refusion")
        for label, answer in ((b"gtk-cancel", _CANCEL), (b"gtk-ok", _OK)):
            self._set("gtk_dialog_add_button", self._window, label, answer)
        self._set("gtk_dialog_set_default_response", self._window, _OK)
        self._task = self._make("gtk_combo_box_new_text")
        for title in TASKS.values():
            self._set("gtk_combo_box_append_text", self._task, title.encode())
        self._set("gtk_combo_box_set_active", self._task, list(TASKS).index(last.task))
        limits = (c_double(value) for value in (0, 100, 1))
        self._strength = self._make("gtk_hscale_new_with_range", *limits)
        self._set("gtk_scale_set_value_pos", self._strength, _RIGHT)
        self._set("gtk_range_set_value", self._strength, c_double(last.strength))
        self._program = self._make("gtk_entry_new")
        self._set("gtk_entry_set_text", self._program, last.program.encode())
        self._set("gtk_entry_set_width_chars", self._program, 40)
        self._set("gtk_entry_set_activates_default", self._program, 1)
        self._fill()

    def _make(self, name: str, *arguments: object) -> c_void_p:
        return c_void_p(self._gtk(name, *arguments, result=c_void_p))

    def _set(self, name: str, *arguments: object) -> None:
        self._gtk(name, *arguments, result=None)

    def _fill(self) -> None:
        """Put the labels and the widgets into a table of two columns."""
        rows = (
            (b"_Task:", self._task),
            (b"_Strength in percent:", self._strength),
            (b"_Program:", self._program),
        )
        table = self._make("gtk_table_new", len(rows), 2, 0)
        self._set("gtk_container_set_border_width", table, 12)
        self._set("gtk_table_set_row_spacings", table, 6)
        self._set("gtk_table_set_col_spacings", table, 12)
        for row, (text, widget) in enumerate(rows):
            label = self._make("gtk_label_new_with_mnemonic", text)
            self._set("gtk_label_set_mnemonic_widget", label, widget)
            self._set("gtk_misc_set_alignment", label, c_float(0), c_float(0.5))
            for column, cell in enumerate((label, widget)):
                self._set(
                    "gtk_table_attach_defaults", table, cell, column, column + 1, row, row + 1
                )
        area = self._make("gtk_dialog_get_content_area", self._window)
        self._set("gtk_container_add", area, table)
        self._set("gtk_widget_show_all", table)

    def run(self) -> Settings | None:
        """Wait for an answer."""
        if self._gtk("gtk_dialog_run", self._window) != _OK:
            return None
        task = list(TASKS)[self._gtk("gtk_combo_box_get_active", self._task)]
        strength = self._gtk("gtk_range_get_value", self._strength, result=c_double)
        program = self._gtk("gtk_entry_get_text", self._program, result=c_char_p)
        return Settings(task, round(strength), program.decode())

    def close(self) -> None:
        """Remove the dialogue from the screen."""
        self._set("gtk_widget_destroy", self._window)
        while self._gtk("gtk_events_pending"):
            self._gtk("gtk_main_iteration")
