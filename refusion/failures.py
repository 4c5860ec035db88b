"""What a user reads about an exception, also about one that nobody expected."""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import dataclass
from pathlib import Path

from refusion.errors import RefusionError, one_line, printable
from refusion.memory import is_out_of_memory, out_of_memory_text

DEBUG = "REFUSION_DEBUG"
"""Environment variable; with the value 1 the tracebacks of unexpected errors are shown."""
PLUGINS: set[str] = set()
"""Names of the modules that `refusion.config.plugins` has imported as plug-ins, or has tried to."""

_PACKAGE = Path(__file__).parent
_HELP = {
    errno.ENOSPC: "free disk space, or write to another disk",
    errno.EDQUOT: "free disk space, or write to another disk",
    errno.EROFS: "write to another folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "the link points at itself; fix the link",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EMFILE: "allow more open files, see ulimit -n",
    errno.ENFILE: "close other programs",
}


@dataclass(frozen=True)
class Failure:
    """Description of an exception.

    Attributes:
        text: one printable line of at most about 1,000 characters.
        is_internal: whether the program or a plug-in is wrong, and not a file, an option or the
            machine, which the user can change.
    """

    text: str
    is_internal: bool


def describe_failure(error: BaseException) -> Failure:
    """Describe an exception for the user; its traceback is used to find the plug-in that failed."""
    if is_out_of_memory(error):
        return Failure(out_of_memory_text(error), is_internal=False)
    if isinstance(error, RefusionError):
        return Failure(one_line(error), is_internal=False)
    if isinstance(error, OSError) and error.errno is not None:
        return Failure(_system_text(error), is_internal=False)
    return Failure(_internal_text(error), is_internal=True)


def is_debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def _system_text(error: OSError) -> str:
    """File, what the operating system says, and what helps."""
    names = [printable(os.fsdecode(name), 300) for name in (error.filename, error.filename2)
             if isinstance(name, (str, bytes))]  # fmt: skip
    text = error.strerror or os.strerror(error.errno)
    said = ": ".join([*dict.fromkeys(names), one_line(text, 300)])
    helps = _HELP.get(error.errno)
    return f"{said}; {helps}" if helps else said


def _internal_text(error: BaseException) -> str:
    text = one_line(error, 600) or "no message"
    kind = type(error).__name__
    place = _place_in_plugin(error)
    if place is None:
        return f"{text} (internal error {kind}; {DEBUG}=1 shows the traceback; please report it)"
    return f"{text} (error {kind} in {printable(place, 250)}; {DEBUG}=1 shows the traceback)"


def _place_in_plugin(error: BaseException) -> str | None:
    """File and line of the innermost code that belongs to no library and not to this package."""
    if isinstance(error, SyntaxError) and error.filename:  # no code of the file has run
        return f"{error.filename}:{error.lineno}"
    import site  # these are too slow for --help
    import sysconfig

    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    libraries = tuple(f"{folder}{os.sep}" for folder in {*map(os.path.realpath, folders)})
    plugins = {name.partition(".")[0] for name in PLUGINS}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if file.startswith("<") or Path(file).is_relative_to(_PACKAGE):
            continue
        name = str(frame.f_globals.get("__name__")).partition(".")[0]
        if name in plugins or not os.path.realpath(file).startswith(libraries):
            return f"{file}:{line}"
    return None
