"""LPIPS, version 0.1; as usual the metric uses AlexNet and the training loss uses VGG16.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.errors import ImageError
from refusion.metrics import vgg
from refusion.metrics.metric import rgb_pair
from refusion.metrics.weights import fill, read_weights

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
_EPS = 1e-10
_LINS = "of github.com/richzhang/PerceptualSimilarity"


@dataclass(frozen=True)
class Backbone:
    """A network whose features are compared.

    Attributes:
        features: function that creates the network.
        layers: numbers of the ReLUs whose outputs are compared.
        least: minimum side of an image in pixels, for which the last layer has an output.
        how: name and source of the files of the network and of the channel weights, for messages.
    """

    features: Callable[[], nn.Sequential]
    layers: tuple[int, ...]
    least: int
    how: str


class LpipsDistance(nn.Module):
    """The LPIPS distance as a module for training losses: differentiable, with frozen weights.

    Args:
        weights: weights file of the network.
        lin: file of the channel weights.
        network: key of `BACKBONES`.

    Raises:
        CheckpointError: a file is missing or is not the published one.
    """

    def __init__(self, weights: str | Path, lin: str | Path, network: str = "alex") -> None:
        super().__init__()
        backbone = BACKBONES[network]
        self.layers, how = backbone.layers, backbone.how
        whole = nn.ModuleDict({"features": backbone.features()})
        self.features = fill(whole, read_weights(weights, how), weights, how)["features"]
        channels = [self.features[n - 1].out_channels for n in self.layers]
        lins = nn.ModuleDict({f"lin{n}": _Lin(count) for n, count in enumerate(channels)})
        self.lins = fill(lins, read_weights(lin, how), lin, how)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Distance of each image, shape (B,), float32; 0 for equal images.

        Args:
            image: float RGB, shape (B, 3, H, W), in [0, 1]; each side has at least 16 pixels for
                VGG16 and 31 for AlexNet.
            target: the same shape.
        """
        x, y = (self._scaled(one) for one in (image, target))
        total, compared = image.new_zeros(len(image), dtype=torch.float32), 0
        for number, part in enumerate(self.features):
            x, y = part(x), part(y)
            if number in self.layers:
                # `normalize` has a finite gradient for features that are all 0.
                unit_x, unit_y = (F.normalize(one, dim=1, eps=_EPS) for one in (x, y))
                difference = (unit_x - unit_y).square()
                total = total + self.lins[f"lin{compared}"](difference).float().mean(dim=(1, 2, 3))
                compared += 1
        return total

    @staticmethod
    def _scaled(image: Tensor) -> Tensor:
        shift, scale = (image.new_tensor(v).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        return (2 * image - 1 - shift) / scale


class Lpips:
    """The metric LPIPS with its published weights; call it with an image and a target.

    Args:
        weights: weights file of the network.
        lin: file of the channel weights.
        network: key of `BACKBONES`.

    Raises:
        CheckpointError: a file is missing or is not the published one.
    """

    def __init__(self, weights: str | Path, lin: str | Path, network: str = "alex") -> None:
        self._distance, self._least = LpipsDistance(weights, lin, network), BACKBONES[network].least

    @torch.no_grad()
    def __call__(
        self, image: Tensor, target: Tensor, *, crop_border: int = 0, channel: str = "rgb"
    ) -> Tensor:
        """Distance of each image, shape (B,), float64 on the CPU; 0 for equal images.

        Args:
            image: float RGB, shape (B, 3, H, W), in [0, 1]; see `LpipsDistance.forward`.
            target: the same shape.
            crop_border: pixels removed on every side, >= 0.
            channel: "rgb" only, because the network was trained on RGB.

        Raises:
            ImageError: the images cannot be compared (see `cropped_pair`) or are too small.
            ConfigError: `channel` is not "rgb".
        """
        image, target = rgb_pair("LPIPS", image, target, crop_border, channel)
        height, width = image.shape[-2:]
        if min(height, width) < self._least:
            raise ImageError(
                f"LPIPS: expected at least {self._least} pixels per side, got {width}x{height}"
            )
        return self._distance(image, target).double().cpu()


class _Lin(nn.Module):
    """Weighted sum over channels; the names are those of the published file."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"1": nn.Conv2d(channels, 1, 1, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.model["1"].weight)


def _alexnet() -> nn.Sequential:
    """The convolutions of AlexNet (Krizhevsky 2014), with the numbers of its published weights."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


BACKBONES = {
    "alex": Backbone(
        _alexnet,
        layers=(1, 4, 7, 9, 11),
        least=31,
        how="alexnet-owt-7be5be79.pth from download.pytorch.org/models, and "
        f"lpips/weights/v0.1/alex.pth {_LINS}",
    ),
    "vgg": Backbone(
        vgg.features,
        layers=tuple(numbers[-1] + 1 for numbers in vgg.layer_numbers()),
        least=16,
        how=f"{vgg.FILE}, and lpips/weights/v0.1/vgg.pth {_LINS}",
    ),
}
