"""What comes back: weights in float16, a report as Markdown and JSON, and the logs in one archive.

At most 8 files of at most 16 MiB each: larger weights are cut into parts, and what does not fit is
named in the report.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.rows import KEY, markdown, read_rows
from refusion.errors import RefusionError, one_line
from refusion.files import atomic_write, open_regular

MOST_FILES, MOST_BYTES = 8, 16 * 2**20
LOGS, TABLE, NUMBERS = "logs.tar.gz", "report.md", "report.json"
OWN_FILES = 3  # the report as Markdown and as JSON, and the logs
_LOG_BYTES = 4 * 2**20  # of a file in the archive; the end of a longer one is kept


@dataclass(frozen=True)
class Training:
    """What a training left.

    Attributes:
        name: name of the run.
        state: state of its part.
        steps: number of steps; None without weights.
        files: names of its weights in the folder that comes back.
        scores: scores of the validation by name.
        note: what is missing, in a few words.
    """

    name: str
    state: str
    steps: int | None
    files: tuple[str, ...]
    scores: Mapping[str, Any]
    note: str = ""


def export(name: str, work: Path) -> tuple[Path | None, str]:
    """Weights of a training in float16, and a note.

    A training that was stopped wrote no export; then its last checkpoint is converted.

    Args:
        name: name of the run.
        work: folder with `exports` and `runs`.
    """
    path, checkpoint = work / "exports" / f"{name}.safetensors", work / "runs" / name
    checkpoint = checkpoint / "model.safetensors"
    if path.is_file():
        return path, ""
    if not checkpoint.is_file():
        return None, "no weights were written"
    import torch  # here, because the command itself starts without waiting for PyTorch

    from refusion.checkpoint import read_checkpoint, save_checkpoint

    try:
        read = read_checkpoint(checkpoint)
        save_checkpoint(path, read.model, read.tensors, read.info, torch.float16)
    except RefusionError as error:
        return None, one_line(error, 200)
    return path, "from its last checkpoint"


def collect(outcome: Outcome, work: Path, out: Path, places: int) -> Training:
    """Copy the weights of a training to the folder that comes back.

    Args:
        outcome: outcome of the training.
        work: folder with `exports` and `runs`.
        out: the folder.
        places: number of files that it may still get.
    """
    path, note = export(outcome.name, work)
    if path is None:
        return Training(outcome.name, outcome.state, None, (), {}, note)
    from refusion.checkpoint import read_checkpoint

    try:
        info = read_checkpoint(path).info
    except RefusionError as error:  # it is copied all the same
        info, note = {}, one_line(error, 200)
    needed = -(-path.stat().st_size // MOST_BYTES)
    if needed > places:
        files, note = (), f"left out, needs {needed} files of 16 MiB, {places} may come back"
    else:
        files = split(path, out, MOST_BYTES)
    scores = info.get("scores") or {}
    return Training(outcome.name, outcome.state, info.get("step"), files, scores, note)


def split(path: Path, out: Path, most: int) -> tuple[str, ...]:
    """Copy a file to a folder, in parts NAME.000, NAME.001, ... if it is too long.

    Args:
        path: the file.
        out: the folder.
        most: largest number of bytes of a part.

    Returns:
        Names of the written files.
    """
    size = path.stat().st_size
    if size <= most:
        shutil.copyfile(path, out / path.name)
        return (path.name,)
    names = []
    with open_regular(path) as file:
        for number in range(-(-size // most)):
            names.append(f"{path.name}.{number:03d}")
            (out / names[-1]).write_bytes(file.read(most))
    return tuple(names)


def pack_logs(files: Iterable[tuple[str, Path]], target: Path, most: int = MOST_BYTES) -> list[str]:
    """Write an archive of logs, the short ones first.

    Args:
        files: name in the archive, and path.
        target: the archive.
        most: largest number of bytes of the archive; files that could exceed it are left out.

    Returns:
        Names of the files that were left out.
    """
    sized = sorted((path.stat().st_size, name, path) for name, path in files if path.is_file())
    left_out, used = [], 2**16
    with tarfile.open(target, "w:gz") as archive:
        for size, name, path in sized:
            kept = min(size, _LOG_BYTES)
            if used + kept + 2048 > most:  # compression does not make every file shorter
                left_out.append(name)
                continue
            with open_regular(path) as file:
                file.seek(size - kept)
                content = file.read(kept)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            used += kept + 2048
    return left_out


def run_files(work: Path) -> Iterable[tuple[str, Path]]:
    """Logs of all parts, option files, and the curves of the trainings."""
    for folder in ("logs", "options"):
        yield from ((f"{folder}/{path.name}", path) for path in (work / folder).glob("*"))
    for path in (work / "runs").glob("*/config.yml"):
        yield f"runs/{path.parent.name}/config.yml", path
    for path in (work / "runs").glob("*/tensorboard/*"):
        yield f"runs/{path.parents[1].name}/tensorboard/{path.name}", path


def write(
    out: Path,
    head: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    trainings: Sequence[Training],
    left_out: Sequence[str],
) -> None:
    """Write the report as Markdown and as JSON.

    Args:
        out: folder of what comes back.
        head: the machine, the time and what was given.
        outcomes: outcomes of all parts.
        trainings: what the trainings left.
        left_out: files that the archive of logs does not contain.
    """
    rows = [row for each in outcomes if each.log for row in read_rows(each.log)]
    tables = {name: [row for row in rows if row[KEY] == name] for name in _names(rows)}
    parts = [
        {"part": each.name, "state": each.state, "seconds": round(each.seconds, 1)}
        for each in outcomes
    ]
    with atomic_write(out / NUMBERS) as temporary:
        content = {"head": dict(head), "parts": parts, "trainings": [*map(asdict, trainings)]}
        content |= {"tables": tables, "left out": list(left_out)}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = ["# One GPU", "", *(f"- {key}: {value}" for key, value in head.items())]
    lines += ["", markdown(parts)]
    for name, found in tables.items():
        lines += ["", f"## {name}", "", markdown(found)]
    if trainings:
        lines += ["", "## trainings", "", markdown([*map(training_row, trainings)])]
        lines += ["", "Parts NAME.000, NAME.001 make one file: `cat NAME.0* > NAME`."]
    for each in outcomes:
        if each.tail():
            lines += ["", f"## last lines of {each.name}", "", "```", *each.tail(), "```"]
    if left_out:
        lines += ["", f"Not in {LOGS}: {', '.join(left_out)}"]
    with atomic_write(out / TABLE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def training_row(training: Training) -> dict[str, Any]:
    """Row of the table of trainings."""
    scores = " ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in training.scores.items()
    )
    return {
        "training": training.name,
        "state": training.state,
        "steps": "" if training.steps is None else training.steps,
        "files": " ".join(training.files),
        "scores": scores,
        "note": training.note,
    }


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row[KEY] for row in rows))
