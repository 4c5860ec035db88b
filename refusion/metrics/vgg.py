"""The convolutions of VGG16 (Simonyan & Zisserman 2015), named as in its published weights."""

from __future__ import annotations

from torch import nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels after each convolution; before every stage but the first the size is halved."""
FILE = "vgg16-397923af.pth from download.pytorch.org/models"


def layer_numbers() -> list[list[int]]:
    """Places of the convolutions of each stage in the published list of layers.

    >>> layer_numbers()[:2]
    [[0, 2], [5, 7]]
    """
    numbers, start = [], 0
    for stage in STAGES:
        numbers.append([start + 2 * n for n in range(len(stage))])  # each with its ReLU
        start += 2 * len(stage) + 1  # and the pooling
    return numbers


def convolutions() -> dict[str, nn.Conv2d]:
    """The convolutions by their published names, with random weights."""
    made, before = {}, 3
    for numbers, widths in zip(layer_numbers(), STAGES, strict=True):
        for number, width in zip(numbers, widths, strict=True):
            made[str(number)] = nn.Conv2d(before, width, 3, padding=1)
            before = width
    return made


def features() -> nn.Sequential:
    """Convolutions, ReLUs and poolings in their published order, with random weights."""
    made, layers = convolutions(), []
    for numbers in layer_numbers():
        layers += [nn.MaxPool2d(2)] if layers else []
        for number in numbers:
            layers += [made[str(number)], nn.ReLU()]
    return nn.Sequential(*layers)
