"""Files of PyTorch, written instruction by instruction, that do what no file of weights needs."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

HEAD, END = b"\x80\x02", b"."


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def call(name: str, *args: bytes) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(args) + b"tR"


def mapping(*items: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def tensor(
    shape: tuple[int, ...], stride: tuple[int, ...], *, count: int = 16, offset: int = 0
) -> bytes:
    """A float32 tensor on the storage '0' of `count` values."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    hooks = call("collections.OrderedDict")
    return call(
        "torch._utils._rebuild_tensor_v2",
        *(storage + whole(count) + b"tQ", whole(offset), numbers(*shape), numbers(*stride)),
        *(b"\x89", hooks),
    )


def numpy_scalar(kind: str, data: bytes = b"N") -> bytes:
    dtype = call("numpy.dtype", text(kind), b"\x89", b"\x88")
    return call("numpy.core.multiarray.scalar", dtype, data)


FOUR = tensor((4,), (1,))
SIZE = call("torch.Size", b"](" + whole(6 * 10**8) + b"e")
HUGE = numbers(10**9)
FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
IS_REFUSED = {
    "bytearray": (call("builtins.bytearray", whole(6 * 10**9)), "it holds a bytearray"),
    "bytearray of Python 2": (call("__builtin__.bytearray", whole(10)), "it holds a bytearray"),
    "set": (call("builtins.set", b"]"), "it holds a set"),
    "counter": (call("collections.Counter"), "it holds a Counter"),
    "storage": (call("torch.storage.UntypedStorage", whole(10**9)), "it makes an empty tensor"),
    "empty tensor": (call("torch.FloatTensor", whole(10**9)), "it makes an empty tensor"),
    "tensor of a size": (call("torch.Tensor", SIZE), "it makes an empty tensor"),
    "object of a size": (b"ctorch\nTensor\n(" + SIZE + b"t\x81", "it makes an empty tensor"),
    "tensor by another function": (
        call(FROM_TYPE, b"ctorch\nFloatTensor\nctorch\nTensor\n", HUGE, b"}"),
        "it makes an empty tensor",
    ),
    "growing storage": (
        call(
            "torch._utils._rebuild_tensor_v2",
            *(call("torch.FloatStorage"), whole(0), HUGE, numbers(1), b"\x89", b"}"),
        ),
        "it makes an empty tensor",
    ),
    "conversion": (
        call(
            "torch._utils._rebuild_device_tensor_from_cpu_tensor",
            *(FOUR, b"ctorch\nfloat64\n", text("cpu"), b"\x89"),
        ),
        "it holds a tensor that is not stored densely",
    ),
    "many dimensions": (tensor((2,) * 65, (0,) * 65), "it holds a tensor without a size"),
    "slow encoding": (call("_codecs.encode", text("ā" * 10**5), text("punycode")), "a long text"),
    "void": (numpy_scalar("V2000000000"), "a NumPy value that is not a number"),
    "changed dtype": (
        call("numpy.dtype", text("f8"), b"\x89", b"\x88") + numbers(4) + b"b",
        "it changes a NumPy dtype",
    ),
    "call of a result": (call("collections.OrderedDict") + b")R", "it calls an object"),
    "two sizes": (FOUR + tensor((4,), (1,), count=8) + b"\x86", "two sizes, or a negative one"),
    "negative size": (tensor((4,), (1,), count=-1), "two sizes, or a negative one"),
    "one tuple as key": (b"})Ns", "whose keys are not texts or numbers"),
    "object": (numpy_scalar("O8", b"]"), "a NumPy value that is not a number"),
    "nested tuples": (b"}" + b")" + b"\x85" * 10**5 + b"Ns", "it nests tuples more than 20 deep"),
    "tuple as key": (mapping((b")", b"N")), "whose keys are not texts or numbers"),
    "system": (call("os.system", text("touch made")), "Python objects besides tensors"),
    "array": (call("numpy.core.multiarray._reconstruct"), "Python objects besides tensors"),
    "protocol 4": (b"\x95" + bytes(8), "Python objects besides tensors"),
    "count": (tensor((4,), (1,), count=10**9), "claims more values than the file holds"),
    "bytes": (tensor((4,), (1,), count=17), "claims more values than the file holds"),
    "view": (tensor((10**6, 10**6), (0, 0)), "claims more values than the file holds"),
    "offset": (tensor((4,), (1,), offset=10**9), "is damaged"),
    "shape": (tensor((-4,), (1,)), "is damaged"),
    "long table of contents": (b"}" * (3 * 2**20), "table of contents of more than 2097152 bytes"),
    "cut": (b"(X\xff\xff\xff\x7f", "is damaged or truncated"),
}
"""Names of values of a dictionary, or of a whole object, and the reason of the refusal."""


def write(path: Path, content: bytes, *, is_old: bool = False) -> Path:
    """A file of PyTorch whose pickle has this content; of a version before 1.6 if `is_old`."""
    if is_old:
        path.write_bytes(HEAD + content + END)
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", HEAD + content + END)
        archive.writestr("a/data/0", bytes(64))
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
    return path
