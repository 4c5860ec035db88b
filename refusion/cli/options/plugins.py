"""The option `--plugin`: modules of the user's own that define networks and other components."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from refusion.config.plugins import VARIABLE, check_plugin_names
from refusion.errors import ConfigError


def add_plugin_option(add: Callable[..., argparse.Action]) -> None:
    """Add the option; the command imports the modules with `refusion.config.plugins`."""
    add(
        "--plugin",
        action="append",
        default=[],
        type=_module_name,
        metavar="MODULE",
        help="import this module first, as my_package.my_nets: it defines components of your own "
        f"(docs/extending.md); may be repeated; the variable {VARIABLE} does the same",
    )


def _module_name(text: str) -> str:
    """Option type: a dotted name of a module."""
    try:
        check_plugin_names([text])
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("plugins: ")) from None
    return text
