"""Writes a model as a folder in the layout of the Hugging Face Hub; `read_checkpoint` reads it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from refusion.arguments import check_arguments
from refusion.checkpoint.file import Checkpoint, is_own_file, save_checkpoint
from refusion.checkpoint.shapes import fail
from refusion.config import config_to_dict
from refusion.errors import CheckpointError
from refusion.files import as_path, atomic_write
from refusion.tensor_files.model_folder import CARD, CONFIG, WEIGHTS
from refusion.weights import FOLDER

_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)[^)]*\)")  # to a file of this project


def save_folder(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write `config.json`, `model.safetensors` and, if there is none, `README.md`.

    The weights file is a complete one: it also works alone. The files of a model that refusion
    wrote are replaced, except README.md, which may be the user's. Other files stay as they are.

    Args:
        folder: is created if it does not exist.
        checkpoint: the model.

    Raises:
        CheckpointError: `folder` is no path, or has files of these names that refusion did not
            write; a tensor has a wrong name or is not finite; or a file cannot be written.
    """
    check_arguments(save_folder, {"checkpoint": checkpoint})
    folder = as_path(folder, "save_pretrained: expected a folder", CheckpointError)
    _check_own(folder)
    config = json.dumps(config_to_dict(checkpoint.model), indent=2) + "\n"
    try:
        with atomic_write(folder / CONFIG) as temporary:
            temporary.write_text(config, encoding="utf-8")
            # Inside, so that after an error both old files are there.
            save_checkpoint(folder / WEIGHTS, checkpoint.model, checkpoint.tensors, checkpoint.info)
        if not (folder / CARD).exists():
            with atomic_write(folder / CARD) as temporary:
                temporary.write_text(model_card(checkpoint), encoding="utf-8")
    except OSError as error:
        fail(folder, f"cannot be written ({error.strerror}); choose another folder")


def _check_own(folder: Path) -> None:
    """Refuse a folder with files that would be replaced and are not refusion's."""
    there = [name for name in (CONFIG, WEIGHTS) if os.path.lexists(folder / name)]
    if there and not is_own_file(folder / WEIGHTS):
        fail(
            folder,
            f"has {' and '.join(there)} of something else, which would be replaced; choose another "
            "folder, or move them away",
        )


def model_card(checkpoint: Checkpoint) -> str:
    """The model card of a shipped model, else a short one, with the header that the hub reads.

    Args:
        checkpoint: the model.
    """
    card = checkpoint.path.with_suffix(".md")
    if checkpoint.path.resolve().parent == FOLDER.resolve() and card.is_file():
        return _LINK.sub(r"\1", card.read_text(encoding="utf-8"))
    task, info = checkpoint.model.task, checkpoint.info
    licence = info.get("licence", info.get("license"))
    facts: dict[str, Any] = {"license": licence} if isinstance(licence, str) else {}
    facts |= {"library_name": "refusion", "pipeline_tag": "image-to-image"}
    facts |= {"tags": ["image-restoration", task]}
    header = "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items())
    return f"""---
{header}---
# {task}

A model of [refusion](https://arxiv.org/abs/2304.08291) for photos.

```python
from refusion import load_restorer

restore = load_restorer("path/of/this/folder")
result = restore(photo)
```
"""
