"""Stand-ins for the modules that GIMP 3 gives its plug-ins; they record what is called."""

import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock


class Layer:
    """A layer of 4 x 3 pixels at (5, 7)."""

    def __init__(self, path=None):
        self.path, self.name, self.offsets = path, "Background", (5, 7)

    def is_gray(self):
        return False

    def get_width(self):
        return 4

    def get_height(self):
        return 3

    def get_parent(self):
        return None

    def get_offsets(self):
        return (True, *self.offsets)

    def set_offsets(self, x, y):
        self.offsets = (x, y)

    def set_name(self, name):
        self.name = name

    @staticmethod
    def new_from_drawable(drawable, image):
        return Layer()


class Image:
    """An image with a list of layers; `log` has the calls that matter."""

    def __init__(self, profile=None):
        self.layers, self.log, self.profile = [], [], profile

    @staticmethod
    def new_with_precision(width, height, mode, precision):
        image = Image()
        image.log.append(("new", width, height, precision))
        Image.last_copy = image
        return image

    def get_color_profile(self):
        return self.profile

    def set_color_profile(self, profile):
        self.profile = profile

    def insert_layer(self, layer, parent, position):
        self.log.append("insert")
        self.layers.insert(position, layer)

    def get_item_position(self, layer):
        return self.layers.index(layer)

    def undo_group_start(self):
        self.log.append("start")

    def undo_group_end(self):
        self.log.append("end")

    def delete(self):
        self.log.append("delete")


def file_save(mode, image, path, options):
    """Write the name of the format, so that a test can read it back."""
    Path(path).write_text("TIFF")
    return True


def install(monkeypatch):
    """Put the stand-ins where `import gi` finds them; returns the fake `Gimp`."""
    gimp = MagicMock(name="Gimp")
    gimp.PlugIn, gimp.Layer, gimp.Image = object, Layer, Image
    gimp.file_save = file_save
    gimp.file_load_layer = lambda mode, image, path: Layer(path) if Path(path).read_text() else None
    gio = MagicMock(name="Gio")
    gio.File.new_for_path = str
    glib = MagicMock(name="GLib")
    glib.Error = lambda text="": text
    gi, repository = ModuleType("gi"), ModuleType("gi.repository")
    gi.require_version = lambda name, version: None
    gi.repository = repository
    repository.Gimp, repository.Gio, repository.GLib = gimp, gio, glib
    repository.GimpUi, repository.GObject = MagicMock(), MagicMock()
    monkeypatch.setitem(sys.modules, "gi", gi)
    monkeypatch.setitem(sys.modules, "gi.repository", repository)
    return gimp
