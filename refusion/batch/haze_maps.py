"""Maps of the haze in photos: 1 - t of every pixel, as a gray image.

A model that predicts haze gives the map and the restored photo from one run of its network.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from refusion.restorers.base import Conditions, Restorer, RestorerInfo


class HazeRecorder:
    """A restorer that also records how much haze each pixel of the photo has.

    Args:
        restorer: has `decompose`, such as the result of `load_restorer` for a model that predicts
            haze.

    Attributes:
        amount: mean of 1 - t over all calls, (1, H, W) float32 in [0, 1]; None before the first.
    """

    def __init__(self, restorer: Restorer) -> None:
        self._restorer, self._calls = restorer, 0
        self.amount: Tensor | None = None

    @property
    def info(self) -> RestorerInfo:
        """Description of the restorer."""
        return self._restorer.info

    def restore(self, lq: Tensor, *, conditions: Conditions, strength: float, **how: Any) -> Tensor:
        """The restored photo (1, 3, H, W), as `Restorer.restore` gives it."""
        haze = conditions.haze
        split = self._restorer.decompose(lq, draw=haze.draw, **how)
        amount = split.transmission[0].neg_().add_(1)
        self._calls += 1
        if self.amount is None:
            self.amount = amount
        else:
            self.amount.lerp_(amount, 1 / self._calls)
        return split.clear(strength, haze.distance, haze.airlight, haze.exposure)
