"""An interrupt during the import of a large library is not lost, and breaks no import."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from refusion.cli import lite, uninterrupted
from refusion.cli.common import EXIT_INTERRUPTED, errors_to_exit_codes
from refusion.cli.uninterrupted import signals_wait, uninterrupted_imports

# As the C++ code of PyTorch: any exception of its imports counts as a missing optional part.
LIBRARY = """
import signal
parts = []
try:
    signal.raise_signal(signal.{name})
    parts.append("optional")
except BaseException:
    pass
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Name of a library that gets a signal while it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(uninterrupted, "LIBRARIES", ("interrupted_library",))

    def write(name="SIGINT"):
        (tmp_path / "interrupted_library.py").write_text(LIBRARY.format(name=name))
        return "interrupted_library"

    yield write
    sys.modules.pop("interrupted_library", None)


def test_an_interrupt_comes_when_the_import_is_complete(library, capsys):
    name, seen = library(), []

    @errors_to_exit_codes
    def command():
        try:
            __import__(name)
        except KeyboardInterrupt:
            seen.append("interrupt")
            raise
        return 0

    assert command() == EXIT_INTERRUPTED
    assert (seen, capsys.readouterr().err) == (["interrupt"], "refusion: interrupted\n")
    assert uninterrupted._Finder not in sys.meta_path


def test_the_library_is_whole_and_the_handler_is_called_once(library):
    name, calls = library("SIGTERM"), []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with uninterrupted_imports():
            module = __import__(name)
        assert module.parts == ["optional"] and module.__spec__.loader.get_source(name)
        assert calls == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert calls == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no current folder")
def test_a_removed_current_folder_is_named_before_the_library_ends_the_process(tmp_path):
    (tmp_path / "gone").mkdir()
    (tmp_path / "a.safetensors").touch()
    program = (
        "import os, sys; from refusion.cli import main; os.chdir(sys.argv[1]); "
        "os.rmdir(sys.argv[1]); sys.exit(main(['info', sys.argv[2]]))"
    )
    names = [str(tmp_path / "gone"), str(tmp_path / "a.safetensors")]
    command = [sys.executable, "-c", program, *names]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    line = "the current folder was removed or cannot be read; change to another one (cd)"
    assert (ended.returncode, ended.stderr) == (2, f"refusion: error: {line}\n")


def test_signals_without_a_handler_keep_their_effect():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals_wait():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_inside_and_a_thread():
    with pytest.raises(ValueError, match="wrong"), signals_wait():
        raise ValueError("wrong")
    with pytest.raises(KeyboardInterrupt), signals_wait():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("wrong")
    passed = []

    def work():
        with signals_wait():
            passed.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert passed == [True]


def test_refusion_lite_ends_both_imports_before_the_interrupt(tmp_path, monkeypatch, capsys):
    runtime = pytest.importorskip("refusion.runtime")
    (tmp_path / "a.png").write_bytes(b"no image")
    released, steps = threading.Event(), []

    def imports(module):
        released.wait(20)
        steps.append(module)

    def load(path, **options):
        signal.raise_signal(signal.SIGINT)
        steps.append("model")
        released.set()

    monkeypatch.setattr(lite, "import_module", imports)
    monkeypatch.setattr(runtime, "load_model", load)
    monkeypatch.setattr(runtime, "find_model", lambda name: tmp_path / "m.onnx")
    code = lite.main(["denoise", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")])
    assert code == EXIT_INTERRUPTED and "interrupted" in capsys.readouterr().err
    assert steps == ["model", "refusion.images.io"]
