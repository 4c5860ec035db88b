"""Opens regular files only, and writes no file through a link.

Writing is atomic: an interrupt leaves the old or the new file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from refusion.errors import RefusionError, short

_STALE_S = 600  # seconds without a write after which a part file belongs to a killed process
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def as_path(value: object, expected: str, error: type[RefusionError]) -> Path:
    """A path that was given as an argument: a text, or an object such as `pathlib.Path`.

    Args:
        value: the argument; None, for example, is no path.
        expected: start of the message: the argument and what it names.
        error: class of the error.

    Raises:
        RefusionError: of class `error`: the value is no path, or empty.
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"{expected}, got {short(value)}")
    if str(value) == "":
        raise error(f"{expected}, got an empty name")
    return Path(value)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading bytes.

    A pipe, a socket or a device is refused at once; reading it could wait without end.

    Raises:
        OSError: the file cannot be opened, or it is not a regular file; `strerror` is one phrase.
    """
    check_regular(path)  # before the open, which has effects on some devices
    # With the flag, the open does not wait if the file has become a pipe.
    return _opened(path, "rb", "O_NONBLOCK")


def check_regular(path: str | Path) -> None:
    """Raise `OSError` unless a path is a regular file; for libraries that open the path."""
    _check_mode(path, _status(path).st_mode)


def check_replaceable(path: str | Path) -> None:
    """Raise `OSError` if a path cannot be written: it exists and is not a regular file.

    Renaming a file to such a path would remove the pipe, the socket or the device.
    """
    with contextlib.suppress(FileNotFoundError):  # also of a link to a file that does not exist
        check_regular(path)


def _status(path: str | Path) -> os.stat_result:
    try:
        return Path(path).stat()
    except ValueError:  # a null character, or half of a surrogate pair
        raise OSError(errno.EINVAL, "is not a possible name of a file", str(path)) from None


def open_for_append(path: str | Path) -> BinaryIO:
    """Open a regular file for appending bytes; create it if it does not exist.

    A link is refused: in a folder from somebody else it could point at any file of the user.

    Raises:
        OSError: the file cannot be opened, or it is a link or not a regular file; `strerror` is one
            phrase.
    """
    check_no_link(path)
    if os.path.lexists(path):
        check_regular(path)
    # With the flags, the open does not follow a link and does not wait for a pipe.
    return _opened(path, "ab", "O_NOFOLLOW", "O_NONBLOCK")


def may_exist(path: str | Path) -> bool:
    """Whether a file, a folder or a link exists, or may exist in a folder that cannot be read."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def ignores_case(folder: Path) -> bool:
    """Whether names in a folder that differ in upper and lower case name one file.

    This holds on most disks of Windows and macOS.

    Args:
        folder: an absolute path without links. Of a folder that does not exist or has no letter in
            its name, the first one above is looked at.
    """
    for place in (folder, *folder.parents):
        other = place.parent / place.name.swapcase()
        with contextlib.suppress(OSError):  # no permission, a name that is too long
            if place.exists() and other != place:
                return other.exists() and not other.is_symlink() and place.samefile(other)
    return False


def same_name(path: str) -> str:
    """A text that is equal for the paths of one file where the case of letters is ignored.

    >>> same_name("/IMG/Straße.JPG")
    '/img/strasse.jpg'
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def check_no_link(path: str | Path) -> None:
    """Raise `OSError` if a path is a link; the folders above may be links."""
    if Path(path).is_symlink():
        raise OSError(errno.EINVAL, "is a link, which is not written through; remove it", str(path))


def _opened(path: str | Path, mode: str, *names: str) -> BinaryIO:
    """Open a file with those of the named flags of `os` that the system has; check what it is."""
    extra = sum(getattr(os, name, 0) for name in names)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | extra, 0o666)

    file = open(path, mode, opener=opener)  # noqa: SIM115
    try:
        _check_mode(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def _check_mode(path: str | Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file", str(path))
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None:
        raise OSError(errno.EINVAL, f"is {kind}, expected a regular file", str(path))


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context that yields a temporary path, which is renamed to ``path`` if no error occurs.

    All bytes are on the disk before the file gets its name, so after a crash of the machine either
    the old or the complete new file exists. After an error or an interrupt the old file is
    unchanged. Temporary files that killed processes left for the same path are removed.

    Args:
        path: the file to write; its folder is created. A pipe, a socket, a device or a folder is
            refused.

    Yields:
        Path of the temporary file, in the same folder.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = path.with_name(f"{_prefix(path)}{os.urandom(4).hex()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # given by the umask; some writers set a stricter mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:  # also after an interrupt
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """Start of the names of the temporary files of a path.

    It contains a hash instead of the name, which may already have the maximum length of a name.
    """
    return f".refusion-{zlib.crc32(os.fsencode(path.name)):08x}-"


def _remove_stale(path: Path) -> None:
    for part in path.parent.glob(f"{_prefix(path)}*.part"):
        with contextlib.suppress(OSError):  # another process may have removed it
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 digest of a file, hexadecimal; reads a mebibyte at a time."""
    import hashlib  # too slow for --help

    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
