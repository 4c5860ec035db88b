"""The convolutions of VGG16 (Simonyan & Zisserman 2015), named as in its published weights."""

from __future__ import annotations

from torch import nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels after each convolution, by stage; the size is halved before each stage but the first."""
FILE = "vgg16-397923af.pth from download.pytorch.org/models"
"""Name and source of the published weights, for messages."""


def layer_numbers() -> list[list[int]]:
    """Number of each convolution in the published list of layers, by stage.

    >>> layer_numbers()[:2]
    [[0, 2], [5, 7]]
    """
    numbers, start = [], 0
    for stage in STAGES:
        numbers.append([start + 2 * n for n in range(len(stage))])  # a ReLU follows each
        start += 2 * len(stage) + 1  # one more for the pooling
    return numbers


def convolutions() -> dict[str, nn.Conv2d]:
    """Create the convolutions, with random weights, by their published names ("0", "2", ...)."""
    convs, dim_in = {}, 3
    for numbers, dims in zip(layer_numbers(), STAGES, strict=True):
        for number, dim in zip(numbers, dims, strict=True):
            convs[str(number)] = nn.Conv2d(dim_in, dim, 3, padding=1)
            dim_in = dim
    return convs


def features() -> nn.Sequential:
    """Create convolutions, ReLUs and poolings in their published order, with random weights.

    The network maps (B, 3, H, W) to (B, 512, H / 16, W / 16).
    """
    convs, layers = convolutions(), []
    for numbers in layer_numbers():
        layers += [nn.MaxPool2d(2)] if layers else []
        for number in numbers:
            layers += [convs[str(number)], nn.ReLU()]
    return nn.Sequential(*layers)
