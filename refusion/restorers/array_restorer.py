"""The class of the result of `refusion.load_restorer`: it restores single images and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.checkpoint import Checkpoint
from refusion.errors import ConfigError
from refusion.images.kinds import Kind, as_batch
from refusion.restorers.array_decomposition import ArrayDecomposition
from refusion.restorers.base import NO_CONDITIONS, Conditions, Progress, RestorerInfo
from refusion.restorers.contract import check_conditions, check_use
from refusion.restorers.loading import Loader, open_weights


class ArrayRestorer:
    """A restorer that can be called with one image: NumPy, torch or Pillow.

    Args:
        load: loads the model, `(device, precision) -> restorer`.
        device: 'auto', 'cpu', 'cuda' or a `torch.device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.
        save: writes the model as a folder; None if it has no weights to write.
    """

    def __init__(
        self,
        load: Loader,
        device: str | torch.device = "auto",
        precision: str = "auto",
        save: Callable[[str | Path], None] | None = None,
    ) -> None:
        check_arguments(ArrayRestorer.__init__, locals())
        self._load, self._save, self._restorer = load, save, load(device, precision)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Checkpoint,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        memory: int | None = None,
        plugins: Iterable[str] = (),
    ) -> ArrayRestorer:
        """The same as `refusion.load_restorer`, by the name that it has in other libraries.

        Nothing is downloaded: `source` is a task, a file or a folder.
        """
        weights = open_weights(source, memory, plugins)
        return cls(weights.load, device, precision, weights.save)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as a folder, as the Hugging Face Hub has it.

        The folder holds `config.json`, `model.safetensors` with the dtypes of the file that was
        loaded, and a model card, `README.md`. `from_pretrained` and `refusion.load_restorer` read
        it. The files of a model that refusion wrote are replaced, except the card.

        Args:
            folder: is created if it does not exist.

        Raises:
            CheckpointError: the folder has files of these names that refusion did not write, or a
                file cannot be written.
            ConfigError: the restorer was not loaded from weights.
        """
        if self._save is None:
            raise ConfigError("save_pretrained: this restorer was not loaded from weights")
        self._save(folder)

    def __repr__(self) -> str:
        """Task, family, sampler, device and precision."""
        info = self.info
        steps = "" if info.sampler is None else f", sampler={info.sampler!r}, steps={info.steps}"
        where = f"device={info.device!r}, precision={info.precision!r}"
        return f"{type(self).__name__}(task={info.task!r}, family={info.family!r}{steps}, {where})"

    @property
    def info(self) -> RestorerInfo:
        """Description of this restorer."""
        return self._restorer.info

    def to(self, device: str | torch.device, precision: str = "auto") -> ArrayRestorer:
        """Load the same model on another device; this restorer does not change.

        Args:
            device: 'auto', 'cpu', 'cuda' or a `torch.device`.
            precision: 'auto' (bf16 where the hardware supports its multiplication, otherwise fp32),
                'fp32', 'bf16' or 'fp16'.

        Raises:
            ConfigError: device or precision unknown or not available.
        """
        return type(self)(self._load, device, precision, self._save)

    def __call__(
        self,
        image: Kind,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int = 0,
        tile: int | Literal["auto"] | None = "auto",
        conditions: Conditions = NO_CONDITIONS,
        strength: float = 1.0,
        callback: Progress | None = None,
    ) -> Kind:
        """Restore an image; the result has its kind, layout and dtype.

        Integers are restored over their full range and rounded to nearest; floats are in [0, 1].
        The options are those of `Restorer.restore`.

        Args:
            image: NumPy (H, W, 3), or torch (3, H, W) or (B, 3, H, W), or a Pillow image; RGB (not
                BGR), any size from 1x1, uint8, uint16, or float in [0, 1]. Gray images and images
                with alpha are accepted, see `refusion.images.kinds.as_batch`. The two views of a
                stereo model are stacked: 6 channels.
            steps: number of network evaluations; None for the default.
            sampler: key of `refusion.sde.SAMPLERS`; None for the default.
            seed: seed of the noise.
            tile: side of the tiles in pixels; 'auto' chooses it by memory, None uses no tiles.
            conditions: conditions of the photo, see `info.needs` and `info.optional`.
            strength: weight of the restoration, from 0 (the photo) to 1 (the restored photo); for
                a model that predicts haze from -2 to 2, see `Restorer.restore`.
            callback: is called with the progress.

        Returns:
            The restored image. Its sides are `info.scale` times as long. A gray image stays gray,
            unless the model adds colours (`info.colours`).

        Raises:
            ImageError: `image` has another type, shape, dtype or range.
            ConfigError: an option is unknown or out of range, or a condition is missing or is not
                used by the model.
            RefusionError: the network gave no finite result.

        >>> import numpy as np
        >>> from refusion import load_restorer
        >>> restore = load_restorer("dehaze", device="cpu")
        >>> hazy = np.full((24, 32, 3), 180, np.uint8)
        >>> clear = restore(hazy, seed=1)
        >>> clear.shape, clear.dtype
        ((24, 32, 3), dtype('uint8'))
        """
        info = self.info
        check_conditions(conditions)
        check_use(conditions, info)
        batch, back = as_batch("image", image, 3 * info.views, keeps_gray=not info.colours)
        restored = self.restore(
            batch,
            steps=steps,
            sampler=sampler,
            seed=seed,
            tile=tile,
            conditions=conditions,
            strength=strength,
            callback=callback,
        )
        return back(restored)

    def decompose(
        self,
        image: Kind,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        tile: int | Literal["auto"] | None = "auto",
        callback: Progress | None = None,
        draw: bool = False,
    ) -> ArrayDecomposition[Kind]:
        """Split an image into haze and clear scene, with a model that predicts haze.

        The network runs once. `clear` of the result then gives the image without haze for every
        strength. With the same options it gives what the call of the restorer gives.

        Args:
            image: see `__call__`.
            steps: number of network evaluations; None for the default.
            sampler: key of `refusion.sde.SAMPLERS`; None for the default.
            seed: seed of the noise.
            tile: see `__call__`.
            callback: is called with the progress.
            draw: whether the haze is a random draw by the seed, see `HazeOptions`.

        Returns:
            `transmission`, `airlight` and `clear(strength, distance, airlight, exposure)`.

        Raises:
            ConfigError: the model has another prediction than `scattering`, or an option is wrong.
            ImageError: `image` has another type, shape, dtype or range.
            RefusionError: the network gave no finite result.
        """
        if not self.info.predicts_haze:
            raise ConfigError(
                "decompose: needs a model with the prediction 'scattering', which predicts the "
                f"haze; the '{self.info.task}' model predicts something else"
            )
        batch, back = as_batch("image", image)
        options = {"steps": steps, "sampler": sampler, "seed": seed, "tile": tile}
        haze = self._restorer.decompose(batch, **options, callback=callback, draw=draw)
        return ArrayDecomposition(image, batch, back, haze)

    def restore(
        self,
        lq: Tensor,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        tile: int | Literal["auto"] | None = "auto",
        conditions: Conditions = NO_CONDITIONS,
        strength: float = 1.0,
        callback: Progress | None = None,
    ) -> Tensor:
        """Restore a batch of photos (B, 3, H, W); see `Restorer.restore`."""
        check_conditions(conditions)
        return self._restorer.restore(
            lq,
            steps=steps,
            sampler=sampler,
            seed=seed,
            tile=tile,
            conditions=conditions,
            strength=strength,
            callback=callback,
        )
