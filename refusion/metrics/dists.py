"""DISTS, computed at the full size of the image.

Ding, Ma, Wang & Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity",
TPAMI 2020.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refusion.errors import CheckpointError
from refusion.metrics import vgg
from refusion.metrics.metric import rgb_pair
from refusion.metrics.weights import fill, read_weights

HOW = f"{vgg.FILE}, and DISTS_pytorch/weights.pt from github.com/dingkeyan93/DISTS"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_CHANNELS = (3, *(stage[-1] for stage in vgg.STAGES))
_C = 1e-6  # c1 and c2 of the paper
_HANN = (0.5, 1.0, 0.5)  # Hann window of length 5 without its two zeros


class Dists:
    """The metric DISTS with its published weights; call it with an image and a target.

    Args:
        network: weights file of VGG16; see `HOW`.
        weights: file of `alpha` and `beta`, the weights of texture and structure; see `HOW`.

    Raises:
        CheckpointError: a file is missing or is not the published one.
    """

    def __init__(self, network: str | Path, weights: str | Path) -> None:
        empty = nn.ModuleDict({"features": nn.ModuleDict(vgg.convolutions())})
        self._convolutions = fill(empty, read_weights(network, HOW), network, HOW)["features"]
        tensors = read_weights(weights, HOW)
        for name in ("alpha", "beta"):
            if name not in tensors or tensors[name].numel() != sum(_CHANNELS):
                raise CheckpointError(
                    f"{weights}: tensor '{name}' is missing or has another shape; get {HOW}"
                )
        alpha, beta = (tensors[name].detach().double().flatten() for name in ("alpha", "beta"))
        total = alpha.sum() + beta.sum()
        self._alpha, self._beta = ((x / total).split(_CHANNELS) for x in (alpha, beta))

    def __call__(
        self, image: Tensor, target: Tensor, *, crop_border: int = 0, channel: str = "rgb"
    ) -> Tensor:
        """Distance of each image, shape (B,), float64 on the CPU; 0 for equal images.

        Args:
            image: float RGB, shape (B, 3, H, W), in [0, 1].
            target: the same shape.
            crop_border: pixels removed on every side, >= 0.
            channel: "rgb" only, because the network was trained on RGB.

        Raises:
            ImageError: the images cannot be compared (see `cropped_pair`).
            ConfigError: `channel` is not "rgb".
        """
        pair = rgb_pair("DISTS", image, target, crop_border, channel)
        mean, std = (image.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        similarity = self._similarity(0, *pair)
        x, y = ((one - mean) / std for one in pair)
        for stage in range(len(vgg.STAGES)):
            x, y = self._stage(stage, x), self._stage(stage, y)
            similarity += self._similarity(stage + 1, x, y)
        return 1 - similarity

    def _similarity(self, stage: int, x: Tensor, y: Tensor) -> Tensor:
        """Weighted similarity of texture (means) and of structure, (B,), equations 5 to 7."""
        x, y = (one.flatten(2).double().cpu() for one in (x, y))
        mean_x, mean_y = x.mean(dim=2), y.mean(dim=2)
        var_x, var_y = x.var(dim=2, correction=0), y.var(dim=2, correction=0)
        covariance = (x * y).mean(dim=2) - mean_x * mean_y
        texture = (2 * mean_x * mean_y + _C) / (mean_x**2 + mean_y**2 + _C)
        structure = (2 * covariance + _C) / (var_x + var_y + _C)
        return texture @ self._alpha[stage] + structure @ self._beta[stage]

    def _stage(self, stage: int, x: Tensor) -> Tensor:
        if stage > 0:
            x = _l2_pool(x)
        for number in vgg.layer_numbers()[stage]:
            x = F.relu(self._convolutions[str(number)](x))
        return x


def _l2_pool(x: Tensor) -> Tensor:
    """L2 pooling, a reduction to half the size without aliasing: the root of the blurred square."""
    window = torch.outer(*(x.new_tensor(_HANN),) * 2)
    kernel = (window / window.sum()).expand(x.shape[1], 1, 3, 3)
    squares = F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
    return (squares + 1e-12).sqrt()
