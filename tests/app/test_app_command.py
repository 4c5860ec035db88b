"""How the page starts, and what keeps it from starting."""

import signal
import socket
import tempfile

import pytest
from app_cases import needs_gradio

from refusion.app import command
from refusion.app.server import listening_socket
from refusion.errors import ConfigError


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command, which must end by itself; exit code and stderr."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # restored afterwards
    handler = signal.getsignal(signal.SIGTERM)

    def call(*argv):
        code = command.main([str(word) for word in argv])
        return code, capsys.readouterr().err

    yield call
    signal.signal(signal.SIGTERM, handler)


def test_without_gradio_it_says_how_to_get_it(run, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, said = run()
    assert code == 2
    assert said.count("\n") == 1
    assert "pip install 'gradio>=6.31,<7'" in said
    assert not list(tmp_path.iterdir())
    assert tempfile.tempdir == str(tmp_path)


def test_plugins_are_imported_first(run):
    code, said = run("--plugin", "not_there")
    assert code == 2
    assert "plugins: module not_there cannot be imported" in said


@needs_gradio
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max-upload", "much"], "--max-upload: expected a size"),
        (["--max-stored", "9" * 5000], "--max-stored: expected a size"),
        (["--weights", "absent.safetensors"], "absent.safetensors: no such weights file"),
        (["--host", "203.0.113.7"], "cannot serve on 203.0.113.7"),
        (["--host", "no such host"], "cannot serve on no such host"),
        (["--host", "x" * 5000], "cannot serve on xxx"),
        (["--max-upload", "4M", "--max-stored", "3M"], "--max-stored: expected at least"),
    ],
)
def test_what_cannot_be_is_one_line(run, argv, message):
    code, said = run("--port", 0, *argv)
    assert code == 2
    assert message in said.splitlines()[-1]


@needs_gradio
def test_a_port_that_is_taken_is_said(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, said = run("--port", port)
    assert code == 2
    assert f"cannot serve on 127.0.0.1:{port}" in said


def test_it_serves_this_machine_alone_unless_told_otherwise():
    options = command.build_parser().parse_args([])
    assert (options.host, options.port) == ("127.0.0.1", 7860)
    for argv in (["--port", "-1"], ["--port", "65536"], ["--port", "x"], ["--allow-host", "*"]):
        with pytest.raises(SystemExit):
            command.build_parser().parse_args(argv)


def test_additional_host_names():
    argv = ["--allow-host", "Photos.example.org", "--allow-host", "b.example"]
    options = command.build_parser().parse_args(argv)
    assert options.allow_host == ["photos.example.org", "b.example"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::"])
def test_addresses_to_listen_on(host):
    try:
        listening = listening_socket(host, 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with listening:
        port = listening.getsockname()[1]
        name = {"0.0.0.0": "localhost", "::": "localhost", "::1": "[::1]"}.get(host, host)
        assert command.address(host, listening) == f"http://{name}:{port}/"
        with pytest.raises(ConfigError, match=f"cannot serve on {host}:{port} "):
            listening_socket(host, port)
