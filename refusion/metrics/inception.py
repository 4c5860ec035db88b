"""The Inception network of the definition of FID, with the names of its published PyTorch weights.

Source: Szegedy et al. 2016, in the version of TensorFlow's model of 2015-12-05. There average
pooling does not count the padding, and the last block uses a maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 2048
_SIDE = 299  # pixels of its input


class Inception(nn.Module):
    """Features of images: float RGB (B, 3, H, W) in [0, 1], any size -> (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _BlockE(1280, "mean")
        self.Mixed_7c = _BlockE(2048, "max")

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], resized to 299 x 299 -> features (B, 2048)."""
        x = 2 * F.interpolate(image, (_SIDE, _SIDE), mode="bilinear", align_corners=False) - 1
        for name, part in self.named_children():
            x = part(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = F.max_pool2d(x, 3, stride=2)
        return x.mean(dim=(2, 3))


class _Conv(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _Block(nn.Module):
    """Parallel branches, each a chain of convolutions, and a pooling branch.

    Args:
        branches: convolutions by name, one mapping per branch, in the order of the outputs.
        pool: 'mean' for average pooling before `branch_pool`, or 'reduce' for an additional branch
            with maximum pooling to half the size.
    """

    def __init__(self, branches: Sequence[Mapping[str, nn.Module]], pool: str) -> None:
        super().__init__()
        self._chains, self._pool = [tuple(chain) for chain in branches], pool
        for chain in branches:
            for name, part in chain.items():
                self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self._chains:
            out = _mean_pool(x) if chain == ("branch_pool",) else x
            for name in chain:
                out = getattr(self, name)(out)
            outputs.append(out)
        if self._pool == "reduce":
            outputs.append(F.max_pool2d(x, 3, stride=2))
        return torch.cat(outputs, dim=1)


def _block_a(before: int, pooled: int) -> _Block:
    return _Block(
        [
            {"branch1x1": _Conv(before, 64, 1)},
            {"branch5x5_1": _Conv(before, 48, 1), "branch5x5_2": _Conv(48, 64, 5, padding=2)},
            {
                "branch3x3dbl_1": _Conv(before, 64, 1),
                "branch3x3dbl_2": _Conv(64, 96, 3, padding=1),
                "branch3x3dbl_3": _Conv(96, 96, 3, padding=1),
            },
            {"branch_pool": _Conv(before, pooled, 1)},
        ],
        "mean",
    )


def _block_b(before: int) -> _Block:
    return _Block(
        [
            {"branch3x3": _Conv(before, 384, 3, stride=2)},
            {
                "branch3x3dbl_1": _Conv(before, 64, 1),
                "branch3x3dbl_2": _Conv(64, 96, 3, padding=1),
                "branch3x3dbl_3": _Conv(96, 96, 3, stride=2),
            },
        ],
        "reduce",
    )


def _block_c(width: int, before: int = 768) -> _Block:
    flat: dict = {"kernel": (1, 7), "padding": (0, 3)}
    tall: dict = {"kernel": (7, 1), "padding": (3, 0)}
    return _Block(
        [
            {"branch1x1": _Conv(before, 192, 1)},
            {
                "branch7x7_1": _Conv(before, width, 1),
                "branch7x7_2": _Conv(width, width, **flat),
                "branch7x7_3": _Conv(width, 192, **tall),
            },
            {
                "branch7x7dbl_1": _Conv(before, width, 1),
                "branch7x7dbl_2": _Conv(width, width, **tall),
                "branch7x7dbl_3": _Conv(width, width, **flat),
                "branch7x7dbl_4": _Conv(width, width, **tall),
                "branch7x7dbl_5": _Conv(width, 192, **flat),
            },
            {"branch_pool": _Conv(before, 192, 1)},
        ],
        "mean",
    )


def _block_d(before: int) -> _Block:
    return _Block(
        [
            {"branch3x3_1": _Conv(before, 192, 1), "branch3x3_2": _Conv(192, 320, 3, stride=2)},
            {
                "branch7x7x3_1": _Conv(before, 192, 1),
                "branch7x7x3_2": _Conv(192, 192, (1, 7), padding=(0, 3)),
                "branch7x7x3_3": _Conv(192, 192, (7, 1), padding=(3, 0)),
                "branch7x7x3_4": _Conv(192, 192, 3, stride=2),
            },
        ],
        "reduce",
    )


class _BlockE(nn.Module):
    """Parallel branches, two of which end in a pair of convolutions; `pool` is 'mean' or 'max'."""

    def __init__(self, before: int, pool: str) -> None:
        super().__init__()
        self._pool = pool
        self.branch1x1 = _Conv(before, 320, 1)
        self.branch3x3_1 = _Conv(before, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Conv(before, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Conv(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.branch3x3_1(x)
        two = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _mean_pool(x) if self._pool == "mean" else F.max_pool2d(x, 3, 1, 1)
        outputs = [
            self.branch1x1(x),
            self.branch3x3_2a(one),
            self.branch3x3_2b(one),
            self.branch3x3dbl_3a(two),
            self.branch3x3dbl_3b(two),
            self.branch_pool(pooled),
        ]
        return torch.cat(outputs, dim=1)
