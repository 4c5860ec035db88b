"""LPIPS with AlexNet, version 0.1.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.errors import ImageError
from refusion.metrics.metric import rgb_pair
from refusion.metrics.weights import fill, read_weights

HOW = (
    "alexnet-owt-7be5be79.pth from download.pytorch.org/models, and lpips/weights/v0.1/alex.pth "
    "from github.com/richzhang/PerceptualSimilarity"
)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
_LAYERS = (1, 4, 7, 9, 11)  # the five ReLUs
_EPS = 1e-10
_LEAST = 31  # pixels a side that reach the last layer


class Lpips:
    """The metric with its weights; call it with a pair.

    Args:
        alexnet: file of the network.
        lin: file of the weights of its channels.

    Raises:
        CheckpointError: a file is missing or does not fit.
    """

    def __init__(self, alexnet: str | Path, lin: str | Path) -> None:
        network = nn.ModuleDict({"features": _features()})
        self._features = fill(network, read_weights(alexnet, HOW), alexnet, HOW)["features"]
        channels = [self._features[n - 1].out_channels for n in _LAYERS]
        lins = nn.ModuleDict({f"lin{n}": _Lin(count) for n, count in enumerate(channels)})
        self._lins = fill(lins, read_weights(lin, HOW), lin, HOW)

    def __call__(
        self, image: Tensor, target: Tensor, *, crop_border: int = 0, channel: str = "rgb"
    ) -> Tensor:
        """Distance of each image, shape (B,), float64 on the CPU; 0 for equal images.

        Args:
            image: float RGB, shape (B, 3, H, W), in [0, 1], at least 31 pixels a side.
            target: the same shape.
            crop_border: pixels left out on every side.
            channel: "rgb", which the network was trained on.

        Raises:
            ImageError: the images cannot be compared, or are smaller than that.
            ConfigError: another channel.
        """
        image, target = rgb_pair("LPIPS", image, target, crop_border, channel)
        height, width = image.shape[-2:]
        if min(height, width) < _LEAST:
            raise ImageError(
                f"LPIPS: expected {_LEAST} pixels a side at least, got {width}x{height}"
            )
        x, y = (self._scaled(one) for one in (image, target))
        total = torch.zeros(len(x), dtype=torch.float64)
        layer = 0
        for number, part in enumerate(self._features):
            x, y = part(x), part(y)
            if number in _LAYERS:
                difference = (_unit(x) - _unit(y)).square()
                distance = self._lins[f"lin{layer}"](difference).mean(dim=(1, 2, 3))
                total += distance.double().cpu()
                layer += 1
        return total

    @staticmethod
    def _scaled(image: Tensor) -> Tensor:
        shift, scale = (image.new_tensor(v).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        return (2 * image - 1 - shift) / scale


class _Lin(nn.Module):
    """Weighted sum over channels, named as in the published file."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"1": nn.Conv2d(channels, 1, 1, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.model["1"].weight)


def _unit(features: Tensor) -> Tensor:
    """Features of unit length over the channels."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _EPS)


def _features() -> nn.Sequential:
    """The convolutions of AlexNet (Krizhevsky 2014), numbered as in its published weights."""
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
