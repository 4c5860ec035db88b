"""Fréchet inception distance (FID) between two sets of images.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from refusion.errors import ImageError
from refusion.metrics.inception import Inception
from refusion.metrics.weights import fill, read_weights

HOW = "pt_inception-2015-12-05-6726825d.pth from github.com/mseitzer/pytorch-fid, its releases"


class Fid:
    """Features of images by the Inception network with its published weights.

    Args:
        inception: weights file of the network; see `HOW`.

    Raises:
        CheckpointError: the file is missing or is not the published one.
    """

    def __init__(self, inception: str | Path) -> None:
        self._network = fill(Inception(), read_weights(inception, HOW), inception, HOW)

    def features(self, image: Tensor) -> Tensor:
        """Features of images, which are resized to 299 x 299 as in pytorch-fid.

        Args:
            image: float RGB, (B, 3, H, W) in [0, 1].

        Returns:
            (B, 2048) float64 on the CPU.
        """
        with torch.no_grad():
            return self._network(image.float()).double().cpu()


def frechet_distance(first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, equation 6 of the paper.

    The value decreases with the number of images, so compare only values of equal numbers of
    images. Published values use 10000 images or more.

    Args:
        first: features of the images of one set, batches (B, F) float64.
        second: features of the images of the other set, batches (B, F) float64.

    Returns:
        Distance >= 0; 0 for equal mean and covariance.

    Raises:
        ImageError: a set has fewer than two images.

    >>> one = torch.tensor([[0.0, 0], [2, 0], [0, 2], [2, 2]], dtype=torch.float64)
    >>> round(frechet_distance([one], [one + 3]), 6)
    18.0
    """
    (mean_1, cov_1), (mean_2, cov_2) = (_gaussian(torch.cat(list(x))) for x in (first, second))
    # tr (S1 S2)^1/2 is the sum of the square roots of the eigenvalues of S1^1/2 S2 S1^1/2.
    values, vectors = torch.linalg.eigh(cov_1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross
    return max(0.0, float(distance))


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    if len(features) < 2:
        raise ImageError(f"FID: expected at least two images in a set, got {len(features)}")
    return features.mean(dim=0), features.T.cov()
