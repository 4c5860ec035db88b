"""Write a challenge entry; equal outputs and facts give equal bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refusion.errors import ConfigError, one_line
from refusion.files import atomic_write, open_regular
from refusion.submission.check import (
    Expected,
    check_submission,
    expected_outputs,
    open_image,
)
from refusion.submission.tracks import README, Track

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time of the format, for equal bytes
_JPEG_QUALITY = 100
_FAULTS = 10
_DESCRIPTION = 10_000  # characters


@dataclass(frozen=True)
class Facts:
    """What the readme of an entry states.

    Attributes:
        runtime: measured seconds per image.
        is_cpu: whether it was measured on a CPU.
        extra_data: whether the model was trained on data beside the track's own.
        description: free text, one line.
    """

    runtime: float
    is_cpu: bool
    extra_data: bool
    description: str


def write_submission(
    archive: str | Path, results: Mapping[str, Path], inputs: str | Path, track: Track, facts: Facts
) -> None:
    """Write an entry, if it passes `check_submission`; if not, an older file is left unchanged.

    Args:
        archive: the zip file.
        results: files of 8-bit images, in any format, by the file name of their input without its
            last suffix.
        inputs: folder of the track's inputs.
        track: one of `TRACKS`.
        facts: for the readme.

    Raises:
        ConfigError: an input has no result, the entry would break a rule of the track, or the file
            cannot be written.
    """
    archive = Path(archive)
    expected = expected_outputs(inputs, track)
    named = {track.output.format(stem=stem): path for stem, path in results.items()}
    missing = sorted(set(expected) - set(named))
    if missing:
        raise ConfigError(f"--submit: no result for {', '.join(missing[:_FAULTS])}")
    try:
        with atomic_write(archive) as aside:
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as file:
                for name in sorted(expected):
                    _add(file, name, _image(named[name], expected[name], track))
                _add(file, README, readme(track, facts).encode())
            faults = check_submission(aside, inputs, track)
            if faults:
                raise ConfigError(
                    f"--submit: the entry has {len(faults)} faults and was not written: "
                    f"{'; '.join(faults[:_FAULTS])}"
                )
    except OSError as error:
        raise ConfigError(f"--submit: cannot write '{archive}': {error}") from error


def readme(track: Track, facts: Facts) -> str:
    """Text of the readme.

    >>> from refusion.submission.tracks import TRACKS
    >>> print(readme(TRACKS["dehaze"], Facts(10.43, False, True, "Refusion")))
    runtime per image [s] : 10.43
    CPU[1] / GPU[0] : 0
    Extra Data [1] / No Extra Data [0] : 1
    Other description : Refusion
    """
    values = {
        "runtime": f"{facts.runtime:.4g}",
        "is_cpu": str(int(facts.is_cpu)),
        "extra_data": str(int(facts.extra_data)),
        "description": one_line(facts.description, _DESCRIPTION),
    }
    return "\n".join(f"{line.key} : {values[line.fact]}" for line in track.readme)


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = 3  # always Unix, for equal bytes on all systems
    entry.external_attr = 0o644 << 16
    file.writestr(entry, data)


def _image(path: Path, output: Expected, track: Track) -> bytes:
    """The result in the format of the track; if it is in that format, its bytes are unchanged."""
    needs_alpha = track.may_have_alpha and output.has_alpha
    with open_regular(path) as file, open_image(file) as image:
        if image.format == track.format == "PNG" and not needs_alpha:
            return path.read_bytes()
        data, image = io.BytesIO(), image.convert("RGB")
    if needs_alpha:
        image.putalpha(255)
    options = {} if track.format == "PNG" else {"quality": _JPEG_QUALITY, "subsampling": 0}
    image.save(data, track.format, **options)
    return data.getvalue()
