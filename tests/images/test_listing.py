"""Images of a folder, and the count of everything that looks like an image and is left out."""

from __future__ import annotations

import os

import numpy as np
import pytest
from format_files import avif, ramp
from metadata_cases import picture
from PIL import features

from refusion.images import packages
from refusion.images.io import read_arrays, read_image, write_image
from refusion.images.listing import FORMATS, format_by_bytes, list_images, scan_folder
from refusion.images.unsupported import kind_by_bytes, kind_by_name


def left_out(folder, *, recursive=True):
    return scan_folder(folder, recursive=recursive).left_out


@pytest.mark.parametrize(
    "suffix", [".jpg", ".JPEG", ".jpe", ".jfif", ".JIF", ".jfi", ".JPS", ".mpo", ".pjpeg", ".pjp"]
)
def test_every_suffix_of_a_jpeg_is_read_and_written(tmp_path, suffix):
    (tmp_path / f"phone{suffix}").write_bytes(picture("jpg"))
    (path,) = list_images(tmp_path)
    photo = read_image(path)
    assert photo.format == "JPEG" and left_out(tmp_path) == {}
    write_image(tmp_path / f"result{suffix}", photo.samples, photo)
    assert (tmp_path / f"result{suffix}").read_bytes()[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.bmp", "BMP"),
        ("a.gif", "GIF"),
        ("a.tga", "Targa"),
        ("a.exr", "OpenEXR"),
        ("a.hdr", "Radiance HDR"),
        ("a.svg", "SVG"),
        ("a.ppm", "Netpbm"),
        ("a.jp2", "JPEG 2000"),
        ("a.psd", "Photoshop"),
        ("a.txt", None),
        ("a", None),
    ],
)
def test_other_formats_are_counted(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"?")
    assert (sum(left_out(tmp_path).values())) == (kind is not None)
    assert kind_by_name(tmp_path / name) == kind
    assert all(str(kind) in reason for reason in left_out(tmp_path))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"BM\x3a\0\0\0\0\0\0\0", "BMP"),
        (b"BMW is a car....", None),
        (b"P6\n12 12 255\n   ", "Netpbm"),
        (b"P6 is a title...", None),
        (b"v/1\x01" + bytes(12), "OpenEXR"),
        (b"#?RADIANCE\nFORMA", "Radiance HDR"),
        (b"qoif" + bytes(12), "QOI"),
        (b"\0\0\1\0\1\0" + bytes(10), "icon"),
        (bytes(16), None),
    ],
)
def test_kinds_by_content(head, kind):
    assert kind_by_bytes(head) == kind


def test_images_with_the_name_of_something_else_are_counted(tmp_path):
    (tmp_path / "photo").write_bytes(picture("jpg"))
    (tmp_path / "photo.jpg_large").write_bytes(picture("jpg"))
    (tmp_path / "copy.bak").write_bytes(picture("webp"))
    (tmp_path / "phone").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "notes").write_text("a text")
    (tmp_path / "empty").touch()
    assert left_out(tmp_path) == {
        "JPEG without the suffix of an image; rename it to NAME.jpg": 2,
        "WEBP without the suffix of an image; rename it to NAME.webp": 1,
        "HEIC without the suffix of an image; rename it to NAME.heic": 1,
    }


@pytest.mark.parametrize(
    ("name", "module", "reason"),
    [
        ("a.HEIC", "pillow_heif", "HEIC needs the package pillow-heif; install it with: pip inst"),
        ("a.NEF", "rawpy", "camera raw needs the package rawpy; install it with: pip install 'ref"),
        ("a.avif", "imagecodecs", "AVIF needs the package imagecodecs; install it with: pip inst"),
        ("a.JXL", "imagecodecs", "JPEG XL needs the package imagecodecs; install it with: pip ins"),
    ],
)
def test_photos_whose_package_is_missing_are_left_out(tmp_path, monkeypatch, name, module, reason):
    (tmp_path / name).write_bytes(b"?")
    monkeypatch.setattr(packages, "_is_there", lambda other: other == module)
    assert list_images(tmp_path) == [tmp_path / name]
    monkeypatch.setattr(packages, "_is_there", lambda other: other != module)
    ((found, count),) = left_out(tmp_path).items()
    assert found.startswith(reason) and count == 1


def test_links_are_followed_to_files_and_counted_for_folders(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (other / "a.jpg").write_bytes(picture("jpg"))
    (folder / "link.jpg").symlink_to(other / "a.jpg")
    (folder / "linked").symlink_to(other)
    (folder / "loop").symlink_to(folder)
    (folder / "up").symlink_to("..")
    (folder / "missing.jpg").symlink_to(other / "none.jpg")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "missing.txt").symlink_to(other / "none.txt")
    listing = scan_folder(folder, recursive=True)
    assert listing.images == (folder / "link.jpg",)
    linked = "linked folder, which is not searched; give it as an input of its own"
    assert listing.left_out == {linked: 3, "broken link": 2}
    assert left_out(folder, recursive=False) == {"broken link": 2}
    (tmp_path / "door").symlink_to(folder)  # the given folder itself may be a link
    assert list_images(tmp_path / "door") == [tmp_path / "door" / "link.jpg"]


def test_pipes_and_folders_with_the_name_of_an_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "album.png").mkdir()
    (tmp_path / "album.png" / "a.png").write_bytes(picture("png"))
    listing = scan_folder(tmp_path, recursive=True)
    assert listing.images == (tmp_path / "album.png" / "a.png",)
    assert listing.left_out == {"not a regular file": 1}


def test_a_folder_that_cannot_be_listed_is_counted(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").write_bytes(picture("png"))
    scandir = os.scandir

    def denied(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", denied)  # root may list whatever the mode says
    listing = scan_folder(tmp_path, recursive=True)
    assert listing.images == (tmp_path / "a.png",)
    assert listing.left_out == {"folder that cannot be listed (Permission denied)": 1}


def test_photos_of_a_folder_that_lists_but_does_not_open_are_no_broken_links(tmp_path, monkeypatch):
    (tmp_path / "a.png").symlink_to("nothing")
    (tmp_path / "b.png").symlink_to("b.png")
    assert left_out(tmp_path) == {"broken link": 2}

    class Entry:
        name, is_dir = "a.png", staticmethod(lambda follow_symlinks: False)

        def stat(self):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("refusion.images.listing._visible", lambda folder: [Entry()])
    assert left_out(tmp_path) == {"cannot be read (Permission denied)": 1}


def test_the_order_is_that_of_the_paths(tmp_path):
    for name in ("b/z.png", "b/a.png", "a.png", "b.png", "b-1/x.png", ".hidden/a.png", "b/.a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path, recursive=True)]
    assert found == sorted(found, key=lambda name: name.split("/")) and len(found) == 5
    assert set(FORMATS.values()) == {"JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JXL"}


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
@pytest.mark.parametrize("major", [b"mif1", b"mif2", b"msf1", b"miaf"])
def test_the_compatible_brands_tell_avif_from_heic(tmp_path, major):
    """Both formats may begin with a brand that they share (ISO/IEC 23008-12, 10.2)."""
    data = avif(ramp())
    assert data[:12] == b"\0\0\0\x20ftypavif" and b"hei" not in data[:32]
    found = []
    for name, brand in (("a.avif", b"avif"), ("b.avif", major)):
        (tmp_path / name).write_bytes(data[:8] + brand + data[12:])
        found.append(read_arrays(tmp_path / name))
    assert [photo.format for photo in found] == ["AVIF", "AVIF"]
    assert np.array_equal(found[0].samples, found[1].samples)
    both = data[:8] + major + data[12:24] + b"heic" + data[28:]
    assert [format_by_bytes(head) for head in (data, both)] == ["AVIF", "HEIC"]
