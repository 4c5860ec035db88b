"""The plug-in for GIMP 3, with GObject introspection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import Gimp, GimpUi, Gio, GLib, GObject  # noqa: E402
from restoration import TASKS, RestorationError, Settings, restore_file, temporary_folder  # noqa: E402

PROCEDURE = "plug-in-refusion"


class Refusion(Gimp.PlugIn):
    """The plug-in: registers the procedure and runs it."""

    def do_query_procedures(self) -> list[str]:
        """Names of the procedures."""
        return [PROCEDURE]

    def do_set_i18n(self, name: str) -> bool:
        """There are no translations."""
        return False

    def do_create_procedure(self, name: str) -> Gimp.Procedure:
        """Describe the procedure and its arguments."""
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, _run, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE)
        procedure.set_menu_label("Restore with re_fusion...")
        procedure.add_menu_path("<Image>/Filters/Enhance")
        procedure.set_documentation(
            "Restore the layer with refusion, result as a new layer",
            "Saves the layer as a TIFF of 16 bits, runs refusion and loads the result.",
            name,
        )
        procedure.set_attribution("Refusion contributors", "MIT", "2026")
        choice = Gimp.Choice.new()
        for number, (task, title) in enumerate(TASKS.items()):
            choice.add(task, number, title, "")
        flags, first = GObject.ParamFlags.READWRITE, Settings()
        procedure.add_choice_argument("task", "_Task", None, choice, first.task, flags)
        procedure.add_double_argument(
            "strength", "Stre_ngth in percent", None, 0, 100, first.strength, flags
        )
        procedure.add_string_argument(
            "program", "_Program", "Path of the program refusion, or its name", first.program, flags
        )
        return procedure


def _run(
    procedure: Gimp.Procedure,
    mode: Gimp.RunMode,
    image: Gimp.Image,
    drawables: Sequence[Gimp.Drawable],
    config: Gimp.ProcedureConfig,
    data: object,
) -> Gimp.ValueArray:
    """Run the procedure; arguments as in `Gimp.RunImageFunc`."""
    if mode == Gimp.RunMode.INTERACTIVE and not _ask(procedure, config):
        return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
    settings = Settings(
        config.get_property("task"),
        config.get_property("strength"),
        config.get_property("program") or "",
    )
    try:
        if len(drawables) != 1 or not isinstance(drawables[0], Gimp.Layer):
            raise RestorationError("refusion: choose one layer")
        _restore(image, drawables[0], settings)
    except RestorationError as error:
        return procedure.new_return_values(
            Gimp.PDBStatusType.EXECUTION_ERROR, GLib.Error(str(error))
        )
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


def _ask(procedure: Gimp.Procedure, config: Gimp.ProcedureConfig) -> bool:
    """Show the dialogue, which keeps its values; return whether the user pressed OK."""
    GimpUi.init(PROCEDURE)
    dialogue = GimpUi.ProcedureDialog.new(procedure, config, "Restore with refusion")
    dialogue.get_widget("strength", GimpUi.ScaleEntry)
    dialogue.fill(None)
    accepted = dialogue.run()
    dialogue.destroy()
    return accepted


def _restore(image: Gimp.Image, layer: Gimp.Layer, settings: Settings) -> None:
    """Restore a layer; the result is a new layer above it, and one step of undo.

    Raises:
        RestorationError: the command failed, or a file could not be written or read.
    """
    with temporary_folder() as folder:
        source, target = Path(folder, "layer.tif"), Path(folder, "restored.tif")
        arguments = settings.command_line(source, target)
        _save(image, layer, source)
        Gimp.progress_init(f"{TASKS[settings.task]} (refusion)")
        restore_file(arguments, Path(folder), _show)
        image.undo_group_start()
        try:
            _add_layer(image, layer, target, settings.layer_name)
        finally:
            image.undo_group_end()
    Gimp.progress_end()
    Gimp.displays_flush()


def _show(share: float | None) -> None:
    """Move the progress bar."""
    if share is None:
        Gimp.progress_pulse()
    else:
        Gimp.progress_update(share)


def _save(image: Gimp.Image, layer: Gimp.Layer, path: Path) -> None:
    """Write the pixels of a layer as a TIFF of 16 bits with the profile of the image."""
    mode = Gimp.ImageBaseType.GRAY if layer.is_gray() else Gimp.ImageBaseType.RGB
    precision = Gimp.Precision.U16_NON_LINEAR
    copy = Gimp.Image.new_with_precision(layer.get_width(), layer.get_height(), mode, precision)
    try:
        profile = image.get_color_profile()
        if profile is not None and profile.is_linear():
            # The models know photos with a gamma. GIMP converts the result back.
            profile = profile.new_srgb_trc_from_color_profile()
        if profile is not None:
            copy.set_color_profile(profile)
        copy.insert_layer(Gimp.Layer.new_from_drawable(layer, copy), None, 0)
        file = Gio.File.new_for_path(str(path))
        if not Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, copy, file, None):
            raise RestorationError(f"refusion: GIMP could not write {path}")
    finally:
        copy.delete()


def _add_layer(image: Gimp.Image, below: Gimp.Layer, path: Path, name: str) -> None:
    """Load a file as a new layer above ``below``."""
    file = Gio.File.new_for_path(str(path))
    layer = Gimp.file_load_layer(Gimp.RunMode.NONINTERACTIVE, image, file)
    if layer is None:
        raise RestorationError(f"refusion: GIMP could not read {path}")
    layer.set_name(name)
    _, x, y = below.get_offsets()
    layer.set_offsets(x, y)
    image.insert_layer(layer, below.get_parent(), image.get_item_position(below))


def main(arguments: Sequence[str]) -> None:
    """Connect to GIMP and wait for its calls.

    Args:
        arguments: of the process, as GIMP gives them.
    """
    Gimp.main(Refusion.__gtype__, arguments)
