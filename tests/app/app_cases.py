"""The page as a process of its own, as users start it."""

import contextlib
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageCms

from refusion.images.io import write_image
from refusion.images.photo import Photo

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ROOT = Path(__file__).parents[2]
# The hook sees every connection that Python code opens, by whatever library.
_RUN = """
import sys
def look(event, values):
    if event == "socket.connect" and values[1][0] not in ("127.0.0.1", "::1"):
        print("outside:", values[1], file=sys.stderr, flush=True)
sys.addaudithook(look)
from refusion.app.command import main
sys.exit(main())
"""


@contextlib.contextmanager
def served(folder, *argv):
    """Address and process of a page; afterwards it left no files and talked to nobody."""
    temporary = folder / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", _RUN, "--port", "0", "--device", "cpu", *map(str, argv)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    errors = folder / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("refusion: http://127.0.0.1:"), errors.read_text()
        yield line.split()[1], process
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert "outside" not in errors.read_text()
        assert "Traceback" not in errors.read_text()
        assert not list(temporary.iterdir())
    finally:
        process.kill()
        process.stdout.close()


def peak_mib(process):
    """Most memory that a process ever held (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def links(page):
    """Addresses of the files to download by name."""
    anchors = "[...document.querySelectorAll('#files a')].map(a => [a.download, a.href])"
    return dict(page.evaluate(anchors))


def photo_16(path, height=40, width=56):
    """Write a 16-bit PNG with a profile and EXIF."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(3))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    write_image(path, image, Photo(image, bit_depth=16, icc=ICC, exif=block))
    return path
