"""Functions and structures of libgimp 2.10 for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_void_p


class Value(ctypes.Union):
    """A value of a `GimpParam`; the padding has the size of the largest member, a colour."""

    _fields_ = (
        ("integer", c_int),
        ("real", c_double),
        ("text", c_char_p),
        ("padding", c_double * 4),
    )


class Parameter(ctypes.Structure):
    """`GimpParam`."""

    _fields_ = (("kind", c_int), ("value", Value))


class Definition(ctypes.Structure):
    """`GimpParamDef`: kind, name and description of a parameter."""

    _fields_ = (("kind", c_int), ("name", c_char_p), ("text", c_char_p))


Query = ctypes.CFUNCTYPE(None)
Run = ctypes.CFUNCTYPE(
    None,
    c_char_p,
    c_int,
    POINTER(Parameter),
    POINTER(c_int),
    POINTER(POINTER(Parameter)),
)


class PlugIn(ctypes.Structure):
    """`GimpPlugInInfo`: the callbacks init, quit, query and run."""

    _fields_ = (("init", c_void_p), ("quit", c_void_p), ("query", Query), ("run", Run))


class Library:
    """Functions of a shared library; names with a trailing type give the type of the result."""

    def __init__(self, name: str) -> None:
        self._library = ctypes.CDLL(name)

    def __call__(self, name: str, *arguments: object, result: type | None = c_int) -> object:
        """Call the function ``name``; integers are 32 bits, other types come as ctypes values."""
        function = self._library[name]  # a new object, so that `restype` holds for this call only
        function.restype = result
        return function(*arguments)
