"""Packages that some file formats need; they are looked for without being imported."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple


class _Package(NamedTuple):
    """Module name, and what pip installs for it."""

    module: str
    install: str


_PHOTO = "'refusion[photo]'"
PACKAGES = {
    "HEIC": _Package("pillow_heif", _PHOTO),
    "RAW": _Package("rawpy", _PHOTO),
    "AVIF": _Package("imagecodecs", "imagecodecs"),
    "JXL": _Package("imagecodecs", "imagecodecs"),
    "JXL with an ICC profile": _Package("pylibjxl", _PHOTO),
}
"""Package that a format needs; formats that are not listed need none."""
NAMES = {"HEIC": "HEIC", "RAW": "camera raw", "AVIF": "AVIF", "JXL": "JPEG XL"}
"""Names of these formats for messages."""


def missing_package(kind: str | None) -> str | None:
    """Message about the package that a format needs and that is not installed; None if nothing is.

    Args:
        kind: name of a format, for example "HEIC"; formats that need no package have none missing.
    """
    package = PACKAGES.get(kind or "")
    if package is None or _is_there(package.module):
        return None
    name = NAMES.get(kind, kind.replace("JXL", "JPEG XL"))
    pip = f"install it with: pip install {package.install}"
    return f"{name} needs the package {package.module.replace('_', '-')}; {pip}"


def load(kind: str) -> ModuleType:
    """Import the package that a format needs.

    Args:
        kind: a key of `PACKAGES`.

    Raises:
        ValueError: the package is not installed; the message is one line.
    """
    from importlib import import_module

    missing = missing_package(kind)
    if missing is not None:
        raise ValueError(missing)
    return import_module(PACKAGES[kind].module)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # a module without a specification that a program has put there
        return True
