"""Extension of Griffe: the doctests of docstrings become code blocks on the API pages."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

# From a line that begins with ">>>" to the next empty line.
DOCTEST = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)


class Doctests(Extension):
    """Put each doctest into a fenced block."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Change the docstring of one class, function, module or attribute."""
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = DOCTEST.sub(
                lambda match: f"```pycon\n{match.group()}\n```", obj.docstring.value
            )
