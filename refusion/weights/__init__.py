"""The shipped models, each a weights file and a model card, and what they do.

This module finds weights files by the name of a task. It does not import PyTorch, so that wrong
names are found at once. A new model is two files here, TASK.safetensors and TASK.md, and an entry
in `ABOUT`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from refusion.errors import CheckpointError, printable, suggest
from refusion.files import as_path
from refusion.tensor_files.model_folder import check_model_folder


class About(NamedTuple):
    """What a shipped model does.

    Attributes:
        does: what it does to a photo, as the help of the command names it.
        needs: what it needs besides the photo; an empty text for nothing.
        measured: its result on a set of photos, from its model card.
        correlation: Spearman correlation, over the pixels of a photo, of the deviation of eight
            samples with the error of their mean; None if it has no samples or was not measured.
        advice: what to do where it does not change a photo; an empty text for nothing.
    """

    does: str
    needs: str
    measured: str
    correlation: float | None = None
    advice: str = ""


ABOUT = {
    "dehaze": About(
        "remove haze, mist and smoke",
        "",
        "real smoke (REVIDE): 15.61 to 18.45 dB",
        0.04,
        "for light haze in the distance there is the task dehaze_landscape",
    ),
    "dehaze_landscape": About(
        "remove light haze in the distance of landscapes and cities",
        "",
        "synthetic haze in the distance (66 photos kept out): 21.45 to 23.32 dB",
    ),
    "deshadow": About(
        "remove cast shadows",
        "",
        "real shadows (UIUC): 18.18 to 24.25 dB",
    ),
    "bokeh": About(
        "blur the background as a fast lens does",
        "--aperture, and a depth map: inside the photo, or by --disparity",
        "measured disparity (Middlebury): 28.10 to 36.78 dB",
    ),
    "denoise": About(
        "remove the noise of cameras and Gaussian noise",
        "",
        "Gaussian noise of 25 levels (Kodak 17 to 24): 20.47 to 31.75 dB",
        0.83,
    ),
    "blind": About(
        "remove noise, blur and JPEG artifacts of unknown strength",
        "",
        "JPEG of quality 30 (Kodak 17 to 24): 30.62 to 31.67 dB",
    ),
}
"""Shipped models that restore photos, by task."""

ENOUGH = 0.4
"""Correlation from which a map of uncertainty shows where the errors are."""

_NO_HUB = " or folder; nothing is downloaded: give a folder with config.json and model.safetensors"

FOLDER = Path(__file__).parent
ONE_STEP = "_one_step"  # end of the names of weights that were distilled for one step


def find_weights(
    task_or_path: str | Path, folder: Path | None = None, steps: int | None = None
) -> Path:
    """Find a weights file: the default weights of a task, else an existing path.

    Args:
        task_or_path: 'dehaze', or a path to a .safetensors file or to a folder with config.json and
            model.safetensors.
        folder: where default weights lie; None for those shipped with the package.
        steps: network evaluations they are for; with 1, weights of the task that were distilled for
            it (<task>_one_step) come first, where there are any.

    Raises:
        CheckpointError: no such file, a folder without these files, or no default weights for the
            task (lists those there are).
    """
    expected = "weights: expected a task, a file or a folder"
    path, shipped = as_path(task_or_path, expected, CheckpointError), shipped_weights(folder)
    shown = printable(task_or_path, 200)
    is_task = str(task_or_path) in shipped  # also if a file has this name: ./dehaze is a path
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError:  # a name that is too long
        is_folder = is_there = False
    if not is_task and is_folder:
        check_model_folder(path)
        return path
    if not is_task and is_there:  # what is no regular file is refused by its reader
        return path
    if path.suffix or len(path.parts) != 1:
        raise CheckpointError(f"{shown}: no such weights file{'' if path.suffix else _NO_HUB}")
    distilled = shipped.get(path.name + ONE_STEP)
    if steps == 1 and distilled is not None:
        return distilled
    if path.name not in shipped:
        hint = suggest(path.name, shipped) if shipped else "; this installation ships none"
        listed = f" (shipped: {', '.join(sorted(shipped))})" if "did you mean" in hint else ""
        raise CheckpointError(f"no default weights for task '{shown}'{hint}{listed}")
    return shipped[path.name]


def shipped_weights(folder: Path | None = None) -> dict[str, Path]:
    """Default weights by task, sorted; `folder` as in `find_weights`."""
    folder = folder or FOLDER
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}
