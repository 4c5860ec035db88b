"""Packages for darktable (`.dtmodel`): one graph from photo to restored photo, in a zip.

darktable cuts a photo into square tiles with a rim of 64 pixels, runs the graph on each tile as
sRGB in 0..1, and puts the tiles together without the rims. So the graph holds the whole method,
with all steps of the sampler, and a model must not need more of the photo than a tile. The format
is that of darktable-ai-sdk (docs/dtmodel-format.md there).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion import __version__
from refusion.arguments import check_arguments
from refusion.checkpoint import Checkpoint, build_model
from refusion.errors import ConfigError
from refusion.export.description import metadata
from refusion.export.exporting import Difference, checked
from refusion.export.local_graph import photo_graph
from refusion.export.onnx_file import Storage, describe, import_onnx, store_as_float16, trace
from refusion.export.simplify import simplify
from refusion.files import atomic_write, sha256_of
from refusion.weights import ABOUT, FOLDER

SUFFIX = ".dtmodel"
TASK = "denoise"
"""The task of darktable whose models take a photo and return a photo of the same size."""
TILES = (1024, 768, 512, 384, 256)
"""Sides in pixels of the tiles that darktable may use; it takes the first that fits the memory."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # a name of a folder on every system
_DATE = (1980, 1, 1, 0, 0, 0)  # the first of zip files: equal models give equal files
_TRAINING_DATA = (
    "273 photographs: 265 under free licences and 8 of the Kodak suite, with synthetic degradations"
)
_TRAINING_LICENCES = "CC0, CC BY, CC BY-SA, Unsplash, Pexels, BSD; Kodak: free use"


@dataclass(frozen=True)
class Package:
    """A package that was written.

    Attributes:
        path: the file.
        id: name by which darktable knows the model: that of the file, without suffix.
        differences: of the graph from PyTorch, for each size; empty if the package onnxruntime is
            not installed.
    """

    path: Path
    id: str
    differences: tuple[Difference, ...]


def export_dtmodel(
    checkpoint: Checkpoint,
    output: str | Path,
    *,
    noise_std: float | None = None,
    opset: int = 18,
    storage: Storage = "float32",
    steps: int | None = None,
    sampler: str | None = None,
    overwrite: bool = False,
) -> Package:
    """Write a model as a package that darktable installs from a file.

    Args:
        checkpoint: content of the weights file; a model that restores each part of a photo from
            the part alone.
        output: the file to write, `ID.dtmodel`. darktable knows the model by this name.
        noise_std: noise that the model removes, standard deviation in [0, 1] units; needed by a
            model of denoising, which has no other way to know it, and by no other model.
        opset: version of the operators of ONNX, 17 to 20.
        storage: how weights are stored: 'float32' or 'float16'.
        steps: network evaluations; None for the default of the model.
        sampler: key of `refusion.sde.SAMPLERS`; None for the default of the model.
        overwrite: whether an existing file is replaced.

    Raises:
        ConfigError: the model needs the whole photo or anything besides the photo, the file exists,
            or an option is out of range or does not suit the model.
        RefusionError: the package onnx is missing, the network cannot be exported, or its results
            differ from those of PyTorch.
        CheckpointError: the tensors do not fit the networks of the config.
        OSError: the file cannot be written.
    """
    check_arguments(export_dtmodel, locals())
    output = Path(output)
    name = _id(output)
    if os.path.lexists(output) and not overwrite:
        raise ConfigError(
            f"{output}: exists; choose another file with -o, or overwrite with --force"
        )
    if storage == "linked":
        raise ConfigError("storage: a package holds its weights; expected float32 or float16")
    import_onnx()
    model = build_model(checkpoint)
    graph = photo_graph(model, noise_std, steps, sampler)
    file = trace(graph, opset)
    simplify(file)
    if storage == "float16":
        store_as_float16(file)
    file.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1  # the tracer loses it
    describe(file, name, metadata(checkpoint, model, graph, None))
    config = _config(checkpoint, name, noise_std)
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = Path(folder) / "model.onnx"
        onnx_file.write_bytes(file.SerializeToString())
        differences = checked(onnx_file, graph, output)
    entries = {"config.json": _as_json(config), "model.onnx": file.SerializeToString()}
    _write_zip(output, {f"{name}/{entry}": data for entry, data in entries.items()})
    return Package(output, name, differences)


def _id(output: Path) -> str:
    if output.suffix != SUFFIX:
        raise ConfigError(f"output: '{output}': expected a name that ends in {SUFFIX}")
    if _ID.fullmatch(output.stem) is None:
        raise ConfigError(
            f"output: '{output.name}': darktable knows the model by this name; expected at most 64 "
            f"letters, digits, '-', '_' and '.' before {SUFFIX}, the first a letter or a digit"
        )
    return output.stem


def _config(checkpoint: Checkpoint, name: str, noise_std: float | None) -> dict[str, Any]:
    """Content of `config.json`."""
    task, level = checkpoint.model.task, None if noise_std is None else f"{255 * noise_std:.4g}"
    is_shipped = checkpoint.path.resolve().parent == FOLDER.resolve()
    does = ABOUT[task].does if is_shipped else f"model for '{task}'"
    title = f"refusion {task}" + ("" if level is None else f", noise level {level}")
    text = f"{does[0].upper()}{does[1:]}" + (
        "" if level is None else f"; noise level {level} of 255"
    )
    return {
        "id": name,
        "name": title,
        "description": text,
        "task": TASK,
        "arch": checkpoint.model.network.type.lower(),
        "backend": "onnx",
        "version": __version__,
        "tiling": True,
        "spatial_dims": ["height", "width"],
        "model_card": _card(checkpoint, level, is_shipped=is_shipped),
        "attributes": {"input_sizes": list(TILES)},
    }


def _card(checkpoint: Checkpoint, level: str | None, *, is_shipped: bool) -> dict[str, str]:
    """Where the model comes from, by the keys that darktable shows."""
    licence = checkpoint.info.get("licence", checkpoint.info.get("license"))
    notes = [f"Exported by refusion {__version__}.",
             f"SHA-256 of the weights file: {sha256_of(checkpoint.path)}."]  # fmt: skip
    if level is not None:
        notes.insert(0, f"Removes noise with a standard deviation of {level} of 255 levels. A part "
                        "of stronger noise remains; weaker noise costs detail.")  # fmt: skip
    card = {"scope": checkpoint.model.task, "notes": " ".join(notes)}
    if not is_shipped:
        return card | ({"license": str(licence)} if licence else {})
    return card | {
        "author": "Refusion contributors",
        "license": "MIT",
        "training_data": _TRAINING_DATA,
        "training_data_license": _TRAINING_LICENCES,
        "paper": "https://arxiv.org/abs/2304.08291",
    }


def _as_json(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=4, ensure_ascii=False) + "\n").encode()


def _write_zip(output: Path, entries: Mapping[str, bytes]) -> None:
    with atomic_write(output) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            file.writestr(entry, data, zipfile.ZIP_DEFLATED)
