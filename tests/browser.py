"""A real headless Chromium for the tests, driven by its DevTools protocol through a pipe.

Needs nothing but the browser: no driver, no WebSocket. https://chromedevtools.github.io
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which containers and root cannot have; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--window-size=1200,900",
)
SECONDS = 60  # that the slowest machine may take for one step


def find_chromium():
    """Path of the browser, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Pipe:
    """Commands to the browser and events from it, JSON that ends in NUL (file numbers 3 and 4)."""

    def __init__(self, command):
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        redirect = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} 2>/dev/null'
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "browser", *command], pass_fds=(theirs_in, theirs_out)
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self.events = b"", 0, []

    def call(self, method, session=None, **parameters):
        """Result of a command; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while (answer := self._read(end)).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _read(self, end):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self):
        os.close(self._out)
        os.close(self._in)
        self.process.terminate()
        self.process.wait(SECONDS)


class Page:
    """One tab."""

    def __init__(self, pipe):
        self._pipe = pipe
        self._target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        attached = pipe.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Result of a command of the protocol."""
        return self._pipe.call(method, self._session, **parameters)

    @contextlib.contextmanager
    def another(self):
        """Another tab of the same browser, which is closed at the end of the block."""
        tab = Page(self._pipe)
        try:
            yield tab
        finally:
            self._pipe.call("Target.closeTarget", targetId=tab._target)

    def set_width(self, width, height=800):
        """Give the window a size in CSS pixels; up to 500 it is that of a telephone."""
        size = {"width": width, "height": height, "mobile": width <= 500}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1)

    def open(self, url):
        """Load an address and wait until all of it is there."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script):
        """Value of a JavaScript expression, JSON; of a promise what it comes to."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script, seconds=SECONDS):
        """The first value of an expression that is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"in vain: {script}\n{self.text()}"
            time.sleep(0.05)
        return value

    def text(self):
        """What a reader sees."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def give_file(self, selector, *paths):
        """Choose files in an input, as a user would."""
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[*map(str, paths)], nodeId=node)

    def download(self, selector, folder):
        """The file that a click on an element downloads into an empty folder."""
        where = {"behavior": "allow", "downloadPath": str(folder)}
        self._pipe.call("Browser.setDownloadBehavior", **where)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        end = time.monotonic() + SECONDS
        while not (found := [f for f in folder.iterdir() if f.suffix != ".crdownload"]):
            assert time.monotonic() < end, "no download"
            time.sleep(0.05)
        return found[0]

    def press_key(self, key):
        """Press and release a key, such as 'Tab' or 'ArrowRight'."""
        for kind in ("keyDown", "keyUp"):
            codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}
            known = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
            self.call("Input.dispatchKeyEvent", type=kind, **known)

    def drag(self, start, end):
        """Press the mouse at one point (x, y) of the window, move to another, and let go."""

        def mouse(kind, point, buttons):
            x, y = point
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=buttons,
                clickCount=1,
            )

        mouse("mouseMoved", start, 0)
        mouse("mousePressed", start, 1)
        for step in range(1, 6):
            share = step / 5
            point = [a + (b - a) * share for a, b in zip(start, end, strict=True)]
            mouse("mouseMoved", point, 1)
        mouse("mouseReleased", end, 0)

    def box(self, selector):
        """Left, top, width and height in the window of the first element that fits."""
        return self.evaluate(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]})()"
        )

    def _events(self, method):
        self.evaluate("0")  # whatever came before it has been read then
        return [
            event["params"]
            for event in self._pipe.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]

    def requests(self):
        """Addresses of all that was asked for, but for what the page itself holds."""
        urls = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith(("data:", "blob:", "about:"))]

    def errors(self):
        """What scripts did not catch."""
        return self._events("Runtime.exceptionThrown")

    def picture(self, path):
        """Write what is seen as PNG."""
        data = self.call("Page.captureScreenshot")["data"]
        Path(path).write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def opened_browser(folder):
    """A tab of a new browser with its profile in a folder."""
    pipe = Pipe([find_chromium(), *FLAGS, f"--user-data-dir={folder}"])
    try:
        yield Page(pipe)
    finally:
        pipe.close()


needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
