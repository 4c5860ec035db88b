"""What a user reads about exceptions: one printable line, and the reason."""

import errno
import os
from importlib import metadata

import pytest

from refusion import failures, memory
from refusion.config import plugins
from refusion.errors import ConfigError, ImageError, RefusionError, one_line, printable
from refusion.failures import describe_failure

HOSTILE = {
    "\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",
    "a\rb\nc\x08": "a\\rb\\nc\\x08",
    "\u202egpj.exe": "\\u202egpj.exe",
    "\u2066\u2069\u200f\ufeff": "\\u2066\\u2069\\u200f\\ufeff",
    "\u2028\x85\x7f\x00": "\\u2028\\x85\\x7f\\x00",
    os.fsdecode(b"\xff.jpg"): "\\udcff.jpg",
}
PLAIN = [
    "Café.jpg",
    "写真\u3000集.jpg",
    "\U0001f468\u200d\U0001f469.png",
    "\u0646\u0645\u06cc\u200c\u062e\u0648",
    "a b",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_characters_that_a_terminal_obeys_become_escapes(text):
    assert printable(text) == HOSTILE[text]
    assert printable(text).encode("utf-8").decode("utf-8").count("\n") == 0


@pytest.mark.parametrize("text", PLAIN)
def test_letters_of_all_languages_stay(text):
    assert printable(text) == text


def test_a_long_text_is_shortened_in_its_middle():
    text = printable(f"begin{'x' * 10**6}end")
    assert len(text) <= 1000
    assert text.startswith("beginxx")
    assert text.endswith("xxend")
    assert len(printable("\x1b" * 10**6)) <= 1000
    assert one_line("a:\n\n  b\tc \x1b") == "a: b c \\x1b"


def failure(error):
    """The description of an error that was raised; it has one short printable line."""
    try:
        raise error
    except Exception as caught:
        described = describe_failure(caught)
    assert described.text.isprintable()
    assert 0 < len(described.text) <= 1100
    return described


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.ELOOP, "fix the link"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EACCES, "permissions"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_errors_of_the_system_are_for_the_user(number, helps):
    found = failure(OSError(number, os.strerror(number), "x\x1b" * 5000))
    assert not found.is_internal
    assert helps in found.text
    assert os.strerror(number) in found.text
    assert failure(OSError(number, None, b"\xff.jpg")).text.startswith("\\udcff.jpg: ")


def test_errors_of_the_package_are_for_the_user():
    assert failure(ConfigError("a: bad\n key")) == failures.Failure("a: bad key", False)


@pytest.mark.parametrize(
    "error",
    [ValueError("x" * 10**6), RecursionError(), KeyError("\x1b"), OSError("no number"), EOFError()],
)
def test_other_errors_are_internal(error, monkeypatch):
    monkeypatch.setattr(failures, "_place_in_plugin", lambda _: None)
    found = failure(error)
    assert found.is_internal
    assert f"(internal error {type(error).__name__}; REFUSION_DEBUG=1 shows" in found.text
    assert found.text.endswith("please report it)")


def test_an_error_of_a_plugin_names_its_file_and_line(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text("import torch\n\ndef run():\n    torch.zeros(2) @ 'x'\n")
    (tmp_path / "broken_nets.py").write_text("def run(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_nets

    with pytest.raises(TypeError) as caught:
        own_nets.run()
    found = describe_failure(caught.value)
    assert found.is_internal
    assert f"error TypeError in {tmp_path}/own_nets.py:4" in found.text
    assert "report" not in found.text
    with pytest.raises(SyntaxError) as caught:
        __import__("broken_nets")
    assert f"{tmp_path}/broken_nets.py:1" in describe_failure(caught.value).text


def failed_decoder():
    """The text of an error in the module `json.decoder`."""
    with pytest.raises(ValueError, match="Expecting") as caught:
        __import__("json").loads("{")
    frames = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    return describe_failure(frames).text


def test_an_installed_plugin_is_known_by_its_name(monkeypatch):
    """Other installed libraries are not plug-ins."""
    monkeypatch.setattr(plugins, "PLUGINS", known := set())
    monkeypatch.setattr(failures, "PLUGINS", known)
    assert "(internal error JSONDecodeError" in failed_decoder()
    plugins.import_plugins(["json.tool"])
    assert "decoder.py:" in failed_decoder()


def test_an_installed_plugin_is_known_by_its_entry_point(monkeypatch):
    monkeypatch.setattr(plugins, "PLUGINS", known := set())
    monkeypatch.setattr(failures, "PLUGINS", known)
    entry = metadata.EntryPoint("x", "json.decoder:JSONDecoder", plugins.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry])
    plugins._import_installed.__wrapped__()
    assert "decoder.py:" in failed_decoder()


OUT_OF_MEMORY = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"),
    RuntimeError("can't start new thread"),
    RuntimeError("unable to mmap 2 bytes from file <a>: Cannot allocate memory (12)"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    OSError("out of memory error when reading image file"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_little_memory_is_known_in_all_its_forms(error, monkeypatch):
    monkeypatch.setattr(memory, "address_space", lambda: 3 * 2**29)
    found = failure(error)
    assert not found.is_internal
    assert found.text.startswith("not enough memory (1.5 GB is the limit of the process, see ulim")
    assert "GB are free on the machine" in found.text
    assert "--max-memory" in found.text
    try:
        raise ImageError("a.tif: cannot be read") from error
    except ImageError as caught:
        text = describe_failure(caught).text
    assert text.startswith("a.tif: cannot be read (1.5 GB is the limit")
    assert describe_failure(RefusionError(text)).text == text


@pytest.mark.parametrize(
    "error",
    [
        ImageError("out of memory.jpg: damaged"),
        FileNotFoundError(errno.ENOENT, "No such file", "can't allocate memory.jpg"),
        RuntimeError("shape mismatch"),
    ],
)
def test_other_errors_are_not_taken_for_little_memory(error):
    assert not memory.is_out_of_memory(error)


def test_memory_of_a_gpu_is_that_of_the_message():
    text = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB "
        "of which 1.12 GiB is free. Including non-PyTorch memory, this process has 3 GiB in use."
    )
    assert failure(RuntimeError(text)).text.startswith(
        "not enough memory (GPU 0 has a total capacity of 79.11 GiB of which 1.12 GiB is free); "
    )


def test_limits_of_a_container_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "address_space", lambda: None)
    (tmp_path / "memory.max").write_text("max\n")
    assert "container" not in memory.out_of_memory_text(MemoryError())
    (tmp_path / "memory.max").write_text(f"{2**31}\n")
    assert "2.0 GB is the limit of the container" in memory.out_of_memory_text(MemoryError())
