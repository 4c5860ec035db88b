"""Plug-ins: modules outside this package that add entries to the component tables.

A plug-in adds its entries while it is imported, such as `NETS["MyNet"] = MyNet`. It is imported if
the user names it (an argument, `--plugin`, the variable REFUSION_PLUGINS, the key `plugins` of an
experiment file) or installed a package that has it as an entry point of the group
`refusion.plugins`. A weights file names its plug-ins, too, but these names are only shown: reading
a weights file imports no module that the file names.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata

from refusion.errors import ConfigError, short
from refusion.failures import PLUGINS

GROUP = "refusion.plugins"
"""Group of the entry points that are imported at the first look-up in a table."""
VARIABLE = "REFUSION_PLUGINS"
"""Environment variable with names of modules, separated by commas."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LONGEST = 200  # characters of a name, which messages show
_MOST = 100  # names in one list
_SHOWN = 3  # names in a message

logger = logging.getLogger(__name__)


def check_plugin_names(names: Iterable[object]) -> None:
    """Check that names are a list of valid module names.

    Args:
        names: values that should be dotted names, such as 'my_package.my_nets'.

    Raises:
        ConfigError: a name is not a module name, there are more than 100, or `names` is a text.
    """
    if isinstance(names, str):
        raise ConfigError(
            f"plugins: expected a list of module names, got the text {names[:40]!r}; "
            "write it in a list, as ['my_nets']"
        )
    if not isinstance(names, Iterable):
        raise ConfigError(f"plugins: expected a list of module names, got {short(names)}")
    names = tuple(names)
    if len(names) > _MOST:
        raise ConfigError(
            f"plugins: expected at most {_MOST} module names, got {len(names)}; name only those "
            "that the model needs"
        )
    for name in names:
        if not isinstance(name, str) or len(name) > _LONGEST or not _NAME.fullmatch(name):
            raise ConfigError(
                "plugins: expected a module name such as my_package.my_nets, got "
                f"{str(name)[:40]!r}"
            )


def import_plugins(names: Iterable[str]) -> None:
    """Import modules that the user has named.

    Args:
        names: dotted names of modules; a module that is imported already is not imported again.

    Raises:
        ConfigError: `names` is not a list of module names, a module does not exist, or a module
            calls `sys.exit`. Other errors inside a module are raised as they are, because its
            author needs the traceback.
    """
    names = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else names
    check_plugin_names(names)
    PLUGINS.update(names)
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"plugins: module {name} cannot be imported ({error}); install its package, or "
                "set PYTHONPATH to the folder that contains it"
            ) from error
        except SystemExit as error:
            raise ConfigError(
                f"plugins: module {name} ended the program while it was imported; remove its call "
                "of sys.exit, or move the call below if __name__ == '__main__'"
            ) from error


def import_allowed_plugins() -> None:
    """Import the plug-ins of installed packages and those that REFUSION_PLUGINS names.

    Raises:
        ConfigError: a module that REFUSION_PLUGINS names cannot be imported.
    """
    _import_installed()
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    try:
        import_plugins(name for name in names if name)
    except ConfigError as error:
        raise ConfigError(f"{VARIABLE}: {error}") from error


def missing_plugins(names: Iterable[str]) -> list[str]:
    """Return the modules that are not imported yet; this function imports none.

    Raises:
        ConfigError: a name is not a module name.
    """
    names = tuple(names)
    check_plugin_names(names)
    return [name for name in names if name not in sys.modules]


def first_names(names: Sequence[str]) -> str:
    """Names for a message: the first three and the number of the others.

    >>> first_names(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


@functools.cache
def _import_installed() -> None:
    """Import the entry points; one that fails is logged, since the user may not need it."""
    for entry in metadata.entry_points(group=GROUP):
        PLUGINS.add(entry.module)
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            logger.warning(
                "plug-in %s (%s) cannot be imported: %s: %s",
                entry.name,
                entry.value,
                type(error).__name__,
                error,
            )
