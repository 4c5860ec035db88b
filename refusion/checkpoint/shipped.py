"""Weights files by task: those that ship with the package, or those of a folder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from refusion.errors import CheckpointError, suggest

ONE_STEP = "_one_step"  # end of the names of weights that were distilled for one step


def find_weights(
    task_or_path: str | Path, folder: Path | None = None, steps: int | None = None
) -> Path:
    """Find a weights file: an existing path, else the default weights of a task.

    Args:
        task_or_path: 'dehaze', or a path to a .safetensors file.
        folder: where default weights lie; None for those shipped with the package.
        steps: network evaluations they are for; with 1, weights of the task that were distilled for
            it (<task>_one_step) come first, where there are any.

    Raises:
        CheckpointError: no such file, or no default weights for the task (lists those there are).
    """
    path = Path(task_or_path)
    if path.exists() and not path.is_dir():  # what is no regular file is refused by its reader
        return path
    if path.suffix or len(path.parts) != 1:
        raise CheckpointError(f"{path}: no such weights file")
    shipped = shipped_weights(folder)
    distilled = shipped.get(path.name + ONE_STEP)
    if steps == 1 and distilled is not None:
        return distilled
    if path.name not in shipped:
        hint = suggest(path.name, shipped) if shipped else "; this installation ships none"
        listed = f" (shipped: {', '.join(sorted(shipped))})" if "did you mean" in hint else ""
        raise CheckpointError(f"no default weights for task '{task_or_path}'{hint}{listed}")
    return shipped[path.name]


def shipped_weights(folder: Path | None = None) -> dict[str, Path]:
    """Default weights by task, sorted; `folder` as in `find_weights`."""
    folder = folder or Path(str(resources.files("refusion") / "weights"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}
