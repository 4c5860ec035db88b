"""The page as a process of its own, as users start it."""

import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import sys
import time
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
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
def look(event, values):
    if event == "socket.connect" and values[1][0] not in ("127.0.0.1", "::1"):
        print("outside:", values[1], file=sys.stderr, flush=True)
sys.addaudithook(look)
from refusion.app.command import main
sys.exit(main())
"""


@contextlib.contextmanager
def served(folder, *argv, end=signal.SIGTERM):
    """Address and process of a page. A signal ends it; it left no files and talked to nobody."""
    temporary = folder / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", _RUN, "--port", "0", "--device", "cpu", *map(str, argv)]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "TMPDIR": str(temporary)}
    errors = folder / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("refusion: http://127.0.0.1:"), errors.read_text()
        yield line.split()[1], process
        start = time.monotonic()
        process.send_signal(end)
        assert process.wait(120) == 0
        assert time.monotonic() - start < 20
        assert "outside" not in errors.read_text()
        assert "Traceback" not in errors.read_text()
        assert not list(temporary.iterdir())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Client:
    """A program that sends what the page sends.

    Args:
        address: address of the page.
        session: what the page chooses anew for every tab.
    """

    def __init__(self, address, session):
        self.host, self.session = address.removeprefix("http://").strip("/"), session

    def ask(self, method, path, body=b"", **headers):
        """Status, headers and text of an answer."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        with contextlib.closing(connection):
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace")

    def post(self, path, values):
        body = json.dumps(values)
        return self.ask("POST", f"/gradio_api/{path}", body, content_type="application/json")

    def upload(self, content, name="a.png", **headers):
        """Status, and path or message."""
        head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = b"%s%s\r\n--b--\r\n" % (head.encode(), content)
        headers |= {"content_type": "multipart/form-data; boundary=b"}
        status, _, text = self.ask("POST", "/gradio_api/upload", body, **headers)
        return status, json.loads(text)[0] if status == 200 else text

    @functools.cached_property
    def config(self):
        """What the page is made of."""
        return json.loads(self.ask("GET", "/config")[2])

    def function(self, name, event):
        """Number of the function that an event of a component calls, and its outputs by name."""
        names = {part["id"]: part["props"].get("elem_id") for part in self.config["components"]}
        found = [
            (entry["id"], [names[output] for output in entry["outputs"]])
            for entry in self.config["dependencies"]
            if any((names[target], kind) == (name, event) for target, kind in entry["targets"])
        ]
        return found[0]

    def join(self, values, name="restore", event="click"):
        """Press the button, or let another event happen; status and answer."""
        number, _ = self.function(name, event)
        asked = {"data": values, "fn_index": number, "session_hash": self.session}
        status, _, text = self.post("queue/join", asked)
        return status, json.loads(text)

    @contextlib.contextmanager
    def waiting(self):
        """Messages about the restoration; the connection is closed at the end of the block."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        connection.request("GET", f"/gradio_api/queue/data?session_hash={self.session}")
        answer = connection.getresponse()
        try:
            yield (json.loads(line[5:]) for line in answer if line.startswith(b"data:"))
        finally:
            answer.close()
            connection.close()

    def restore(self, values, name="restore", event="click"):
        """What the components show after a restoration or another event, by name.

        If the values were refused before, only `refused`: the message.
        """
        assert self.join(values, name, event)[0] == 200
        with self.waiting() as messages:
            done = next(m for m in messages if m["msg"] == "process_completed")
        if not done["success"]:
            return {"refused": done["output"]["error"]}
        outputs = self.function(name, event)[1]
        return dict(zip(outputs, done["output"]["data"], strict=True))


def file(path):
    """How the page names an uploaded file."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


FIELDS = {
    "photos": None,
    "task": "latent",
    "strength": 100,
    "maps": None,
    "aperture": 1.8,
    "focus": "",
    "format": "photo",
    "quality": 95,
    "distance": 1,
    "exposure": "keep",
    "noise_level": 0,
    "steps": 0,
    "seed": 0,
    "samples": 1,
}
"""Fields of the page and their values at its start."""


def sent(*photos, **values):
    """What a click sends: uploaded photos, and values that differ from `FIELDS`."""
    assert not values.keys() - FIELDS.keys()
    return list((FIELDS | {"photos": [file(path) for path in photos]} | values).values())


def peak_mib(process):
    """Most memory that a process ever held (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def photo_16(path, height=40, width=56):
    """Write a 16-bit PNG with a profile and EXIF."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(3))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    write_image(path, image, Photo(image, bit_depth=16, icc=ICC, exif=block))
    return path
