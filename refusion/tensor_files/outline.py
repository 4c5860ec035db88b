"""The outline of a pickle: what reading it would do, found without doing it.

`torch.load(weights_only=True)` calls functions of a fixed list only. But some of them allocate any
amount of memory, and the hash of a key that is nested deep enough overflows the stack. Here the
instructions of the pickle are followed with inert objects in place of all functions, so that
`pickles` can compare the sizes with the file and refuse such calls before PyTorch reads it.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

MAX_BYTES = 2 * 2**20  # of a pickle; that of a Stable Diffusion has 0.3 MiB
_DEEPEST = 20  # levels of nested tuples
# All instructions that PyTorch reads, except those of sets.
_INSTRUCTIONS = (
    "PROTO STOP GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 NONE NEWFALSE NEWTRUE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT BININT BININT1 BININT2 "
    "BINFLOAT BINUNICODE SHORT_BINSTRING BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1"
)
_REFUSED = ("builtins.bytearray", "builtins.set", "collections.Counter")  # allocate, or hash
_REBUILD = "torch._utils._rebuild_"
_SPECIAL = ("sparse", "nested", "qtensor", "wrapper", "device")  # can allocate, or take much time
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_DATA = "storage"
_MOST_DIMENSIONS = 64  # of a tensor of PyTorch
_DTYPE = "numpy.dtype"
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_STATES = tuple((3, order, None, None, None, -1, -1, 0) for order in "<>|=")
_KEYS = (str, int, float, bool, type(None))


class UnsafeError(Exception):
    """The pickle does what no file of weights needs; the message is one phrase."""


@dataclass
class Inert:
    """Stands for a function or class, or for what a call of it would return."""

    name: str
    is_result: bool = False
    longest: int = 0  # characters of the texts that it encodes
    count: int = 0  # elements of a piece of tensor data

    def __call__(self, *args: object) -> Inert:
        """Check the arguments of functions that could use much time or memory."""
        if self.is_result:
            raise UnsafeError("it calls an object")
        if self.name == _DTYPE and args[:1] not in [(number,) for number in _NUMBERS]:
            raise UnsafeError("it holds a NumPy value that is not a number")
        if self.name.endswith(("Storage", "Tensor")):
            raise UnsafeError("it makes an empty tensor")
        if self.name == _FROM_TYPE:
            args[0](*args[2])
        if self.name.startswith(f"{_REBUILD}tensor"):
            _check_view(*args)
        if self.name == "_codecs.encode":
            self.longest = max([self.longest, *(len(arg) for arg in args if isinstance(arg, str))])
        return Inert(self.name, is_result=True)

    def __setstate__(self, state: object) -> None:
        """Check the state of a NumPy dtype; ignore that of other objects."""
        if self.name == _DTYPE and state not in _STATES:
            raise UnsafeError("it changes a NumPy dtype")

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an item of an ordered dictionary."""


class _Deep(tuple):
    """A tuple that knows its number of levels."""

    depth = 1


@dataclass
class Outline:
    """What a pickle contains.

    Attributes:
        functions: functions and classes by their names, 'module.name'.
        storages: for each piece of tensor data its key, the name of its type and the number of
            elements.
    """

    functions: dict[str, Inert] = field(default_factory=dict)
    storages: dict[str, tuple[str, int]] = field(default_factory=dict)


def read_outline(file: BinaryIO) -> Outline:
    """Follow the instructions of one pickle.

    Args:
        file: positioned at the start of the pickle; afterwards at its end.

    Raises:
        UnsafeError: the pickle does what no file of weights needs.
        Exception: the pickle is damaged; of any type.
    """
    reader = _Reader(file, encoding="latin1")
    reader.outline = Outline()
    reader.load()
    return reader.outline


class _Instructions(dict):
    """Functions by instruction."""

    def __missing__(self, code: int) -> None:
        raise pickle.UnpicklingError(f"Unsupported instruction {code}")


class _Reader(pickle._Unpickler):  # the reader in C allocates what an instruction says
    """Follows the instructions of a pickle without calling anything."""

    outline: Outline

    def find_class(self, module: str, name: str) -> Inert:
        """An inert object in place of a function or class."""
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full in _REFUSED:
            raise UnsafeError(f"it holds a {name}")
        if full.startswith(tuple(_REBUILD + kind for kind in _SPECIAL)):
            raise UnsafeError("it holds a tensor that is not stored densely")
        return self.outline.functions.setdefault(full, Inert(full))

    def persistent_load(self, pid: Any) -> Inert:
        """Note a piece of tensor data."""
        _, kind, key, _, count, *_ = pid
        name, count = kind.name.rpartition(".")[2], int(count)
        old = self.outline.storages.setdefault(str(key), (name, count))
        if count < 0 or old != (name, count):
            raise UnsafeError("it gives the data of a tensor two sizes, or a negative one")
        return Inert(_DATA, is_result=True, count=count)

    def load_newobj(self) -> None:
        """Put an inert object in place of a new object."""
        args, kind = self.stack.pop(), self.stack.pop()
        self.append(kind(*args))

    def load_setitem(self) -> None:
        """Check a key."""
        value, key = self.stack.pop(), self.stack.pop()
        _check_items(self.stack[-1], [key])
        self.stack[-1][key] = value

    def load_setitems(self) -> None:
        """Check several keys."""
        items = self.pop_mark()
        _check_items(self.stack[-1], items[::2])
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][key] = value

    def load_tuple(self) -> None:
        """Count the levels of a tuple."""
        self._nest(self.pop_mark())

    def load_tuple1(self) -> None:
        """See `load_tuple`."""
        self._nest([self.stack.pop()])

    def load_tuple2(self) -> None:
        """See `load_tuple`."""
        self._nest(reversed([self.stack.pop(), self.stack.pop()]))

    def load_tuple3(self) -> None:
        """See `load_tuple`."""
        self._nest(reversed([self.stack.pop(), self.stack.pop(), self.stack.pop()]))

    def _nest(self, items: Any) -> None:
        made = _Deep(items)
        made.depth = 1 + max((item.depth for item in made if isinstance(item, _Deep)), default=0)
        if made.depth > _DEEPEST:
            raise UnsafeError(f"it nests tuples more than {_DEEPEST} deep")
        self.append(made)

    dispatch: ClassVar[Mapping[int, Any]] = _Instructions(
        {
            getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
            for name in _INSTRUCTIONS.split()
        }
        | {
            pickle.NEWOBJ[0]: load_newobj,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
            pickle.TUPLE[0]: load_tuple,
            pickle.TUPLE1[0]: load_tuple1,
            pickle.TUPLE2[0]: load_tuple2,
            pickle.TUPLE3[0]: load_tuple3,
        }
    )


def _check_view(data: Inert, offset: object, size: object, *_: object) -> None:
    """Check that a tensor has at most as many values as its data."""
    if data.name != _DATA:
        return  # of a function that PyTorch refuses
    if not isinstance(size, tuple) or len(size) > _MOST_DIMENSIONS:
        raise UnsafeError("it holds a tensor without a size")
    if math.prod(size) > data.count:
        raise UnsafeError("a tensor claims more values than the file holds")


def _check_items(target: object, keys: list[object]) -> None:
    if not isinstance(target, (dict, Inert)) or not all(type(key) in _KEYS for key in keys):
        raise UnsafeError("it holds a dictionary whose keys are not texts or numbers")
