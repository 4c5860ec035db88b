"""No option file, weights file or archive hangs, needs much memory or gives more than one line."""

import contextlib
import io
import json
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import file_builders as build
import pytest
import torch
from fuzzing import FUZZ, check_line, limits
from hypothesis import given
from hypothesis import strategies as st

from refusion.checkpoint import read_checkpoint
from refusion.config import load_config
from refusion.errors import RefusionError
from refusion.official.weights import read_official, read_published
from refusion.submission.check import check_submission
from refusion.submission.tracks import TRACKS

pytestmark = pytest.mark.slow
OPTIONS = sorted(Path(__file__).parents[2].glob("options/*.yml"))

NUMBERS = st.sampled_from(
    (
        "-1",
        "0",
        "1",
        "1e400",
        ".nan",
        ".inf",
        "1.5",
        "9" * 40,
        "0x7fffffffffffffff",
        "1_000",
        "1:30",
    )
)
VALUES = st.one_of(
    NUMBERS,
    st.sampled_from(("~", "true", "[]", "{}", "[1, 2]", "{a: 1}", "*a", "&a [*a]", "!!python/x y")),
    st.sampled_from(("'\x1b[31m'", "2020-02-30", "x" * 3000, "[" * 500, "!!binary xx", "<<: 1")),
    st.text(max_size=8).map(lambda text: json.dumps(text)),
)


@st.composite
def option_files(draw):
    """An option file of the project with some values, keys or lines replaced."""
    lines = draw(st.sampled_from(OPTIONS)).read_text(encoding="utf-8").splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[at].partition(":")
        value = draw(VALUES)
        lines[at] = draw(
            st.sampled_from(
                (f"{key}{colon} {value}", f"{lines[at]}\n{lines[at]}", f"  {lines[at]}", value, "")
            )
        )
    return "\n".join(lines)


@FUZZ
@given(option_files())
def test_option_files(text):
    with tempfile.TemporaryDirectory() as folder, limits():
        path = Path(folder, "options.yml")
        path.write_text(text, "utf-8", "surrogatepass")
        try:
            load_config(path)
        except RefusionError as error:
            check_line(error, path)


@st.composite
def safetensors(draw):
    """A safetensors file with wrong entries in its header."""
    config = draw(
        st.one_of(
            st.none(),
            st.dictionaries(st.sampled_from(("task", "network", "sde", "x")), st.integers()),
            st.just({"task": "dehaze", "network": {"type": "NAFNet", "width": 10**9}}),
        )
    )
    head = {"format": draw(st.sampled_from((1, 1, 0, "1", None, True))), "task": "dehaze"}
    head |= {"config": config, "info": draw(st.sampled_from(({}, None, [], {"a": "\x1b[2J"})))}
    metadata = {"refusion": draw(st.sampled_from((json.dumps(head), "{", "[" * 5000)))}
    names = st.sampled_from(("network.a", "latent_unet.b", "x", "network.\n\x1b[1m", "n" * 5000))
    tensors = {
        draw(names): {
            "dtype": draw(st.sampled_from(("F32", "F32", "U8", "F8_E4M3", "X"))),
            "shape": draw(st.lists(st.sampled_from((0, 1, 2, -1, 2**62)), max_size=3)),
            "data_offsets": [draw(build.NUMBERS), draw(build.NUMBERS)],
        }
        for _ in range(draw(st.integers(0, 3)))
    }
    text = json.dumps({"__metadata__": metadata} | tensors).encode()
    size = draw(st.sampled_from((len(text),) * 9 + (2**63, 10**9, 0)))
    return struct.pack("<Q", size) + text + bytes(draw(st.integers(0, 64)))


@FUZZ
@given(build.damaged(safetensors()))
def test_weights_files(data):
    with tempfile.TemporaryDirectory() as folder, limits():
        path = Path(folder, "model.safetensors")
        path.write_bytes(data)
        for read in (read_checkpoint, lambda path: read_published(path, "weights")):
            try:
                read(path)
            except RefusionError as error:
                check_line(error, path)


class Expanded:
    """An object whose pickle calls a function that is no tensor constructor."""

    def __reduce__(self):
        return (print, ("this must not run",))


_OBJECTS = st.recursive(
    st.one_of(
        st.integers(-1, 5).map(lambda n: torch.zeros(max(n, 0))),
        st.sampled_from(
            (torch.zeros(1).expand(10**6, 10**6), torch.zeros(2, dtype=torch.complex64))
        ),
        st.sampled_from((None, 1, "text", b"bytes", Expanded(), (1, 2), 1e400, torch.float16)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ("params", "params_ema", "state_dict", "a.weight", "module.a", 3, "\x1b")
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


@st.composite
def pth_files(draw):
    """A file written by torch.save, in one of its two formats; sometimes packed again."""
    buffer = io.BytesIO()
    value = draw(_OBJECTS)
    torch.save(value, buffer, _use_new_zipfile_serialization=draw(st.booleans()))
    data = buffer.getvalue()
    if data[:2] == b"PK" and draw(st.integers(0, 4)) == 0:
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", 8) as new:
            for entry in old.namelist():
                content = old.read(entry)
                if draw(st.integers(0, 3)) == 0:
                    content = draw(st.sampled_from((b"", content[:9], bytes(10**6))))
                new.writestr(entry, content)
        data = packed.getvalue()
    return data


@FUZZ
@given(build.damaged(pth_files()))
def test_published_weights(data):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), tempfile.TemporaryDirectory() as folder, limits():
        path = Path(folder, "model.pth")
        path.write_bytes(data)
        try:
            read_official(path)
        except RefusionError as error:
            check_line(error, path)
    assert "must not run" not in printed.getvalue()


@st.composite
def archives(draw):
    """A zip file with the outputs of two photos, some of them wrong."""
    names = st.sampled_from(
        ("a.png", "b.png", "readme.txt", "../a.png", "x/", "\x1b[1m", "n" * 3000)
    )
    contents = st.one_of(
        build.JUNK, build.pngs(), build.jpegs(), st.just(bytes(10**6)), st.just(b"a: b\n" * 99)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in draw(st.lists(names, max_size=4, unique=True)):
            method = draw(st.sampled_from((0, 8, 12)))
            file.writestr(zipfile.ZipInfo(name), draw(contents), method)
    return buffer.getvalue()


@FUZZ
@given(build.damaged(archives()))
def test_challenge_entries(data):
    with tempfile.TemporaryDirectory() as folder, limits():
        for name in ("a", "b"):
            Path(folder, "in").mkdir(exist_ok=True)
            Path(folder, "in", f"{name}.png").write_bytes(build.small_png())
        Path(folder, "entry.zip").write_bytes(data)
        for fault in check_submission(
            Path(folder, "entry.zip"), Path(folder, "in"), TRACKS["dehaze"]
        ):
            assert "\n" not in fault and fault.isprintable() and len(fault) < 600


def test_a_pickle_is_not_run():
    """The object of the fuzz test does run code when it is unpickled without care."""
    assert pickle.loads(pickle.dumps(Expanded())) is None
