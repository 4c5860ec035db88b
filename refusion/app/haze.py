"""Keeps the haze of a photo, so that another strength needs no network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from refusion.batch.options import RestoreOptions
from refusion.images.photo import Photo
from refusion.images.samples import store, to_float
from refusion.restorers import ArrayDecomposition, HazeOptions, RestorerInfo
from refusion.restorers.base import NO_CONDITIONS, Conditions
from refusion.restorers.refusion.decomposition import Decomposition


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
    """The haze of a photo.

    Attributes:
        haze: the haze.
        photo: the reduced copy of the photo that the page shows, uint8 samples.
    """

    haze: Decomposition
    photo: Photo

    @classmethod
    def of(cls, haze: Decomposition, shown: Photo) -> KeptHaze:
        """Keep the haze of a photo.

        Args:
            haze: the haze.
            shown: the reduced copy, with samples of any kind.
        """
        photo = in_8_bits(shown)
        return cls(haze.to(photo.samples.device), photo)

    def picture(self, options: RestoreOptions) -> Photo:
        """The reduced copy without haze.

        Args:
            options: strength, and how haze is removed.
        """
        samples = self.photo.samples[None]
        scene = _clear(self.haze, samples, options.strength, options.conditions.haze)[0]
        return replace(self.photo, samples=scene)


def in_8_bits(photo: Photo) -> Photo:
    """The same photo with samples in uint8, which need little memory.

    Args:
        photo: a photo with samples of any kind.
    """
    samples = torch.empty(photo.samples.shape, dtype=torch.uint8)
    store(to_float(photo.samples), samples)
    return replace(photo, samples=samples)


def _clear(haze: Decomposition, lq: Tensor, strength: float, options: HazeOptions) -> Tensor:
    with torch.no_grad():
        split = ArrayDecomposition(lq, lq, lambda batch: batch, haze)
        return split.clear(strength, options.distance, options.airlight, options.exposure)
