"""`OnnxModel`: restores one photo at a time with a file of `refusion export`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refusion.arguments import check_arguments
from refusion.errors import CheckpointError, ConfigError, RefusionError, one_line, suggest
from refusion.files import as_path
from refusion.haze_options import ALL_HAZE, HazeOptions
from refusion.images.frame import WHOLE, Area, inside_frame
from refusion.runtime.change import keep_strong_changes
from refusion.runtime.description import read_description
from refusion.runtime.engines import Engine, choose_engine, start_engine
from refusion.runtime.guided import with_change
from refusion.runtime.haze import Decomposition, certain_depth
from refusion.runtime.limits import tile_within
from refusion.runtime.noise_level import estimate_noise_std
from refusion.runtime.plan import is_valid
from refusion.runtime.resizing import shrink
from refusion.runtime.samples import check_photo, store, structure, to_float
from refusion.runtime.sampling import choose_table, run_sampler
from refusion.runtime.tiles import blend_tiles
from refusion.weights import FOLDER

WRONG_OUTPUT = "has another shape or type than the photo: the file is damaged; export it again"
_CHANNELS = {"tau": 1}  # of the outputs of a network; 3 for all others
NOT_FINITE = "the model gave values that are not finite: the file is damaged; export it again"
_NO_INPUT = "the ONNX model takes no photo: its plan is that of another model; export it again"

_EXPECTED_PLAN = "expected part 'runtime' of the description in a file of refusion export"


class OnnxModel:
    """Restores photos with an ONNX file; see `load_model`.

    Args:
        engine: runs the graph of the file.
        plan: how photos are restored: part 'runtime' of the description in the file.

    Raises:
        ConfigError: the plan lacks a value, or one is of a wrong type or out of its range.

    Attributes:
        task: task of the model, such as 'dehaze'.
        strengths: smallest and largest strength.
        predicts_haze: whether the model finds the haze of a photo, see `decompose`.
        largest_noise: largest noise level in [0, 1] units; None for a model that needs none.
    """

    def __init__(self, engine: Engine, plan: Mapping[str, Any]) -> None:
        check_arguments(OnnxModel.__init__, locals())
        if not is_valid(plan):
            raise ConfigError(f"plan: {_EXPECTED_PLAN}, got other values: use load_model(FILE)")
        self._engine, self._plan = engine, plan
        self.task: str = plan["task"]
        self.strengths: tuple[float, float] = tuple(plan["strengths"])
        self.predicts_haze = "haze" in plan
        self.largest_noise: float | None = plan.get("process", {}).get("noise", {}).get("largest")

    def __call__(
        self,
        image: np.ndarray,
        *,
        strength: float = 1.0,
        seed: int = 0,
        haze: HazeOptions = ALL_HAZE,
        noise_std: float | None = None,
    ) -> np.ndarray:
        """Restore an image; the result has its shape and dtype.

        Args:
            image: (H, W, 3) RGB, uint8, uint16, or float in [0, 1].
            strength: weight of the restoration, see `strengths`; 0 gives the photo.
            seed: seed of the noise.
            haze: how haze is removed, for models that predict it; `draw` has no effect.
            noise_std: noise level of the photo in [0, 1] units, for models of denoising; None for
                an estimate.

        Raises:
            ImageError: the image has another shape, type or range.
            ConfigError: a value is out of range, or the model does not use it.
            RefusionError: the model failed, or gave no finite result.
        """
        if isinstance(image, np.ndarray) and image.ndim == 3:
            options = {"haze": haze, "noise_std": noise_std}
            photo = image.transpose(2, 0, 1)
            return self.restore(photo, strength, seed, **options).transpose(1, 2, 0)
        check_photo(image)
        return image  # not reached: the check raises an error

    def restore(
        self,
        photo: np.ndarray,
        strength: float = 1.0,
        seed: int = 0,
        *,
        haze: HazeOptions = ALL_HAZE,
        noise_std: float | None = None,
    ) -> np.ndarray:
        """Restore a photo (3, H, W), such as the samples of `refusion.images.io.read_arrays`.

        Args:
            photo: uint8, uint16 or float in [0, 1].
            strength: see `__call__`.
            seed: see `__call__`.
            haze: see `__call__`.
            noise_std: see `__call__`.

        Returns:
            The restored photo, like `photo`.

        Raises:
            ImageError: the photo has another shape, type or range.
            ConfigError: a value is out of range, or the model does not use it.
            RefusionError: the model failed, or gave no finite result.
        """
        check_photo(photo)
        self.check(strength, haze, noise_std)
        share = structure(photo, *self._plan["flat"])
        if strength == 0 or share == 0:
            return photo.copy()
        if self.predicts_haze:
            return self.decompose(photo).clear(photo, strength, haze)
        area = self._area(photo)
        if area == WHOLE:
            return self._restored_part(photo, strength, share, seed, noise_std)
        inside, result = area.of(photo), photo.copy()
        share *= structure(inside, *self._plan["flat"])
        area.of(result)[...] = self._restored_part(inside, strength, share, seed, noise_std)
        return result

    def _area(self, photo: np.ndarray) -> Area:
        """The part that is restored, see `refusion.restorers.framed`."""
        is_local = "copy" not in self._plan and not self.predicts_haze
        return WHOLE if is_local or self.task == "inpaint" else inside_frame(photo)

    def _restored_part(
        self, photo: np.ndarray, strength: float, share: float, seed: int, noise_std: float | None
    ) -> np.ndarray:
        copy = self._reduced(photo)
        if copy is not None:
            change = self._restored(copy, strength * share, seed, noise_std) - copy
            window, smoothness = (self._plan["copy"][name] for name in ("window", "smoothness"))
            return with_change(change, copy, photo, window, smoothness)
        values = to_float(photo)
        restored = self._restored(values, strength, seed, noise_std)
        out = np.empty_like(photo)
        store(values + (restored - values) * np.float32(share), out)
        return out

    def check(self, strength: float, haze: HazeOptions, noise_std: float | None) -> None:
        """Raise `ConfigError` if a value is out of range or the model does not use it.

        Args:
            strength: see `__call__`.
            haze: see `__call__`.
            noise_std: see `__call__`.
        """
        low, high = self.strengths
        if not low <= strength <= high:
            raise ConfigError(
                f"strength: expected {low:g}..{high:g} for '{self.task}', got {strength:g}"
            )
        if haze != ALL_HAZE and not self.predicts_haze:
            raise ConfigError(f"haze: the '{self.task}' model does not use it")
        if noise_std is None:
            return
        if self.largest_noise is None:
            raise ConfigError(f"noise level: the '{self.task}' model does not use it")
        if not 0 <= noise_std <= self.largest_noise * (1 + 1e-6):
            raise ConfigError(
                f"noise level: expected 0..{255 * self.largest_noise:g} 8-bit levels, the range of "
                f"the model, got {255 * noise_std:g}"
            )

    def within(self, limit: int, photo: np.ndarray) -> OnnxModel:
        """The same model with tiles that are small enough for a limit of the memory.

        Args:
            limit: bytes of the whole process.
            photo: the photo (3, H, W) that will be restored; it counts as a part of the process.

        Raises:
            ImageError: the photo needs more with the smallest tiles.
        """
        tile = tile_within(limit, photo, self._plan)
        return OnnxModel(self._engine, {**self._plan, "tile": tile})

    def noise_level(self, photo: np.ndarray) -> float | None:
        """The noise level that is estimated for a photo, in [0, 1] units; None for other models.

        Args:
            photo: (3, H, W), uint8, uint16 or float in [0, 1].
        """
        noise = self._plan.get("process", {}).get("noise")
        return None if noise is None else estimate_noise_std(photo, noise)

    def decompose(self, photo: np.ndarray) -> Decomposition:
        """Find the haze of a photo, which gives the photo without haze and a map of the haze.

        Args:
            photo: (3, H, W), uint8, uint16 or float in [0, 1].

        Raises:
            ImageError: the photo has another shape, type or range.
            ConfigError: the model does not predict haze.
            RefusionError: the model failed, or gave no finite result.
        """
        check_photo(photo)
        if not self.predicts_haze:
            raise ConfigError(f"haze: the '{self.task}' model does not predict it")
        area, constants = self._area(photo), self._plan["haze"]
        copy = self._reduced(photo := area.of(photo))
        image = to_float(photo) if copy is None else copy
        tau, airlight = self._run(["tau", "airlight"], {"mu": image})
        tau = certain_depth(tau, image, structure(photo, *self._plan["flat"]), constants)
        return Decomposition(image, tau, airlight, constants, self._plan.get("copy", {}), area)

    def _reduced(self, photo: np.ndarray) -> np.ndarray | None:
        """The small copy that the network runs on; None if it runs on the photo."""
        side = self._plan.get("copy", {}).get("side", math.inf)
        return shrink(photo, side) if max(photo.shape[1:]) > side else None

    def _restored(
        self, image: np.ndarray, strength: float, seed: int, noise_std: float | None
    ) -> np.ndarray:
        """The restored image (3, h, w) float32, not clamped."""
        process = self._plan.get("process")
        if process is None:
            found = self._tiled({"photo": image})
        else:
            level = self._estimated(image) if noise_std is None else noise_std
            if noise_std is None and level is not None and level < process["noise"]["negligible"]:
                return image
            table = choose_table(process, level)
            found = run_sampler(table, self._predict, image, process["start_std"], seed)
        if "change" in self._plan:
            found = keep_strong_changes(image, found, self._plan["change"])
        return image + (found - image) * np.float32(strength)

    def _estimated(self, image: np.ndarray) -> float | None:
        level = self.noise_level(image)
        return None if level is None else min(level, self.largest_noise)

    def _predict(self, state: np.ndarray, mu: np.ndarray, time: float) -> np.ndarray:
        return self._tiled({"state": state, "mu": mu}, np.array([time], np.float32))

    def _tiled(
        self, images: Mapping[str, np.ndarray], time: np.ndarray | None = None
    ) -> np.ndarray:
        """The output of the network on images of one size, in tiles if they are large."""
        names = [name for name in images if name in self._engine.inputs]
        if not names:
            raise RefusionError(_NO_INPUT)

        def network(*crops: np.ndarray) -> np.ndarray:
            return self._run(["output"], dict(zip(names, crops, strict=True)), time)[0]

        factor = self._plan["factor"]
        tile = max(self._plan["tile"], 2 * factor)
        if "copy" in self._plan:
            tile = max(images[names[0]].shape)
        return blend_tiles(network, [images[name] for name in names], tile, factor)

    def _run(
        self,
        outputs: list[str],
        images: Mapping[str, np.ndarray],
        time: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Outputs (C, h, w) of the network for images (C, h, w)."""
        given = {name: np.ascontiguousarray(image[None]) for name, image in images.items()}
        if "time" in self._engine.inputs:
            given["time"] = time
        try:
            found = self._engine.run(outputs, given)
        except Exception as error:  # the packages have exceptions of their own
            if "alloc" in str(error).lower():
                raise MemoryError from error
            raise RefusionError(f"the ONNX model failed: {one_line(error, 200)}") from error
        sides = next(iter(given.values())).shape[2:]
        for name, each in zip(outputs, found, strict=True):
            shape = 1, _CHANNELS.get(name, 3), *sides
            if not isinstance(each, np.ndarray) or each.dtype != np.float32 or each.shape != shape:
                raise RefusionError(f"the output '{name}' of the ONNX model {WRONG_OUTPUT}")
            if not np.isfinite([each.min(), each.max()]).all():
                raise RefusionError(NOT_FINITE)
        return [each[0] for each in found]


def find_model(task_or_path: str | Path) -> Path:
    """The shipped ONNX file of a task, else an existing path.

    Args:
        task_or_path: 'dehaze', or a path to an .onnx file.

    Raises:
        CheckpointError: there is no such file.
    """
    path = as_path(task_or_path, "load_model: expected a task or an .onnx file", CheckpointError)
    shipped = {file.stem: file for file in sorted(FOLDER.glob("*.onnx"))}
    if str(task_or_path) in shipped:
        return shipped[str(task_or_path)]
    if not os.path.lexists(path):
        hint = suggest(str(task_or_path), shipped) if shipped else ""
        raise CheckpointError(f"{path}: no such ONNX file and no task with a shipped one{hint}")
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a folder, expected an .onnx file; make one from a folder with weights: "
            f"refusion export {path} -o FILE.onnx"
        )
    return path


def load_model(path: str | Path, *, threads: int | None = None, engine: str = "auto") -> OnnxModel:
    """Load a file that `refusion export` wrote.

    Args:
        path: the file, or the name of a task with a shipped ONNX file, such as 'dehaze'.
        threads: number of threads of the engine; None for one per core.
        engine: 'onnxruntime', 'openvino', or 'auto' for the fastest one that is installed.

    Raises:
        CheckpointError: the file does not exist, is no ONNX file, or does not say how photos are
            restored with it.
        ConfigError: the engine is unknown.
        RefusionError: the package of the engine is not installed.
    """
    path = find_model(path)
    try:
        plan = read_description(path).get("runtime")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if plan is None:
        raise CheckpointError(
            f"{path}: holds a network whose restoration needs PyTorch; use its weights file with "
            "refusion restore --weights FILE"
        )
    if not is_valid(plan):
        raise CheckpointError(
            f"{path}: its description is damaged; export the model again with refusion export"
        )
    return OnnxModel(start_engine(path, choose_engine(engine), threads), plan)
