"""Limits the space that uploads and results take on the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from refusion.errors import RefusionError

_FILE = 2**16  # bytes that a file counts at least, so that the number of files is limited, too
_FREE = 2**28  # bytes of the disk that remain free


class StorageFullError(RefusionError):
    """The files do not fit, even without old files."""


@dataclass(frozen=True)
class _File:
    path: Path
    size: int
    time: float


class Storage:
    """Keeps the files in a folder below a limit; the oldest files are deleted first.

    Uploads that are still being received are the files directly in `served`; complete uploads and
    results are in folders of `served`, where they may be deleted. Files in other folders, such as
    those of the running restoration, count and are never deleted.

    Args:
        folder: folder of all temporary files.
        served: part of the folder with the uploads and results.
        limit: bytes of all files together.
    """

    def __init__(self, folder: Path, served: Path, limit: int) -> None:
        self.folder, self.served, self.limit = folder, served, limit
        self._lock = threading.Lock()
        self._reserved: dict[object, int] = {}  # bytes of each upload that is being received

    @contextlib.contextmanager
    def receiving(self, size: int = 0) -> Iterator[Callable[[int], None]]:
        """Reserve space for an upload within the block.

        Args:
            size: bytes of the upload, 0 if they are not known.

        Yields:
            Function to call with the number of bytes received so far.

        Raises:
            StorageFullError: the upload does not fit, even without old files; the function, too.
        """
        upload = object()

        def reserve(total: int) -> None:
            with self._lock:
                missing = total - self._reserved[upload]
                if missing > 0:
                    self._make_room(missing)
                    self._reserved[upload] = total

        def grow(received: int) -> None:
            if received > self._reserved[upload]:  # in large blocks: each one lists all files
                reserve(received + max(_FILE, self.limit // 64))

        self._reserved[upload] = 0
        try:
            reserve(size)
            yield grow
        finally:
            with self._lock:
                del self._reserved[upload]
                if not self._reserved:
                    self._delete_parts()

    def make_room(self, size: int = 0) -> None:
        """Delete the oldest files until the limit allows `size` bytes more.

        Raises:
            StorageFullError: the bytes do not fit, even without old files.
        """
        with self._lock:
            self._make_room(size)

    def _make_room(self, size: int) -> None:
        files, parts = self._files()
        needed = size + sum(self._reserved.values())
        used = sum(file.size for file in files)
        written = sum(file.size for file in parts)
        free = shutil.disk_usage(self.folder).free - _FREE
        limit = min(self.limit, used + written + free)
        deletable = [file for file in files if self.served in file.path.parents]
        if used - sum(file.size for file in deletable) + needed > limit:
            raise StorageFullError(
                "no space for the file: all uploads and results together may take "
                f"{self.limit / 2**20:.4g} MiB, and the disk must not become full; try again later "
                "or give a smaller file"
            )
        for file in sorted(deletable, key=lambda file: file.time):
            if used + needed <= limit:
                return
            _delete(file.path)
            used -= file.size

    def _files(self) -> tuple[list[_File], list[_File]]:
        """Complete files, and the parts of uploads that are being received."""
        complete, parts = [], []
        for folder, _, names in os.walk(self.folder):
            place = Path(folder)
            for name in names:
                with contextlib.suppress(OSError):  # deleted meanwhile
                    status = (place / name).lstat()
                    file = _File(place / name, max(status.st_size, _FILE), status.st_ctime)
                    (parts if place == self.served else complete).append(file)
        return complete, parts

    def _delete_parts(self) -> None:
        """Delete what broken uploads left; called when no upload is being received."""
        for part in self._files()[1]:
            _delete(part.path)


def _delete(path: Path) -> None:
    """Delete a file and its folder, if the folder is then empty."""
    with contextlib.suppress(OSError):  # deleted meanwhile; other files are there
        path.unlink()
        path.parent.rmdir()
