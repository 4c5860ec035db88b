"""Keeps the haze of the last photo of each browser tab, so that its sliders run no network."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusion.images.io import write_image
from refusion.images.photo import Photo
from refusion.images.samples import store, to_float
from refusion.restorers import ArrayDecomposition, HazeOptions, RestorerInfo
from refusion.restorers.base import NO_CONDITIONS, Conditions
from refusion.restorers.refusion.decomposition import Decomposition

_TABS = 8  # tabs whose haze is kept: at most 20 MB each


class KeepingRestorer:
    """A restorer that keeps the haze of a photo, or uses the kept haze and runs no network.

    Args:
        restorer: a model that predicts haze.
        kept: haze of the photo that will be restored; None to find it.

    Attributes:
        haze: haze of the photo; None before it is known.
    """

    def __init__(self, restorer: Any, kept: KeptHaze | None) -> None:
        self._restorer = restorer
        self.haze = None if kept is None else kept.haze

    @property
    def info(self) -> RestorerInfo:
        """Description of the restorer."""
        return self._restorer.info

    def restore(
        self,
        lq: Tensor,
        *,
        conditions: Conditions = NO_CONDITIONS,
        strength: float = 1.0,
        **how: Any,
    ) -> Tensor:
        """The restored photo (1, 3, H, W), as `Restorer.restore` gives it."""
        if self.haze is None:
            self.haze = self._restorer.decompose(lq, **how).haze
        return _clear(self.haze, lq, strength, conditions.haze)


@dataclass(frozen=True)
class KeptHaze:
    """The haze of a restored photo.

    Attributes:
        key: identifies the photo and everything that the haze depends on.
        haze: the haze.
        photo: the reduced copy of the photo that the page shows, uint8 samples.
    """

    key: Hashable
    haze: Decomposition
    photo: Photo

    @classmethod
    def of(cls, key: Hashable, haze: Decomposition, shown: Photo) -> KeptHaze:
        """Keep the haze of a photo.

        Args:
            key: see `KeptHaze`.
            haze: the haze.
            shown: the reduced copy, with samples of any kind.
        """
        samples = torch.empty(shown.samples.shape, dtype=torch.uint8)
        store(to_float(shown.samples), samples)
        return cls(key, haze.to(samples.device), replace(shown, samples=samples))

    def write_preview(
        self, strength: float, options: HazeOptions, folder: Path
    ) -> tuple[Path, Path]:
        """Write the reduced copy of the photo and the same without haze.

        Args:
            strength: see `Restorer.restore`.
            options: see `HazeOptions`.
            folder: folder for the files.

        Returns:
            Files of both pictures: before and after.
        """
        samples = self.photo.samples
        scene = _clear(self.haze, samples[None], strength, options)[0]
        files = folder / "before.jpg", folder / "after.jpg"
        for file, picture in zip(files, (samples, scene), strict=True):
            write_image(file, picture, self.photo)
        return files


class HazeShelf:
    """The haze of the last photo of each browser tab; that of the oldest tabs is dropped."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, KeptHaze] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: str, kept: KeptHaze) -> None:
        """Keep the haze of a photo; it replaces that of the previous photo of the tab.

        Args:
            session: identifies the browser tab.
            kept: the haze.
        """
        with self._lock:
            self._kept[session] = kept
            self._kept.move_to_end(session)
            while len(self._kept) > _TABS:
                self._kept.popitem(last=False)

    def take(self, session: str, key: Hashable) -> KeptHaze | None:
        """The kept haze of a tab, if it has the key; otherwise it is dropped.

        Args:
            session: identifies the browser tab.
            key: see `KeptHaze`.

        Returns:
            None if no haze with this key is kept.
        """
        with self._lock:
            kept = self._kept.get(session)
            if kept is not None and kept.key != key:
                del self._kept[session]
                return None
            return kept


def _clear(haze: Decomposition, lq: Tensor, strength: float, options: HazeOptions) -> Tensor:
    with torch.no_grad():
        split = ArrayDecomposition(lq, lq, lambda batch: batch, haze)
        return split.clear(strength, options.distance, options.airlight, options.exposure)
