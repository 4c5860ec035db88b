"""NIQE, a no-reference metric; lower is better.

Mittal, Soundararajan & Bovik, "Making a Completely Blind Image Quality Analyzer", IEEE SPL 2013.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import CheckpointError, ImageError
from refusion.files import open_regular
from refusion.metrics.metric import y

HOW = "basicsr/metrics/niqe_pris_params.npz from github.com/XPixelGroup/BasicSR"
BLOCK = 96  # side of a block in pixels, as in the authors' code
FEATURES = 36  # 18 at each of two scales
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns to the neighbours of a pixel
_STEP = 0.001  # step of the table of shape parameters, as in the authors' code

_MAX_BYTES = 2**20  # of the file, and of each array in it; the published arrays have 11 kB


def _read_statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance; `numpy.load` does not unpickle by default, so no code is run."""
    with open_regular(path) as file:
        content = io.BytesIO(file.read(_MAX_BYTES))
    with zipfile.ZipFile(content) as archive:
        if any(entry.file_size > _MAX_BYTES for entry in archive.infolist()):
            raise ValueError("an array is too large")
    with np.load(content) as arrays:
        mean, covariance = arrays["mu_pris_param"].ravel(), arrays["cov_pris_param"]
        return mean.astype(np.float64), covariance.astype(np.float64)


class Niqe:
    """The metric NIQE with the statistics of pristine photos; call it with an image.

    Args:
        statistics: .npz file of `mu_pris_param` and `cov_pris_param`; see `HOW`.

    Raises:
        CheckpointError: the file is missing or does not contain these arrays.
    """

    def __init__(self, statistics: str | Path) -> None:
        path = Path(statistics)
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file, and nothing is downloaded here; get {HOW}"
            )
        try:
            mean, covariance = _read_statistics(path)
        except Exception as error:  # a damaged archive can raise any error in its readers
            raise CheckpointError(f"{path}: not the statistics of NIQE; get {HOW}") from error
        if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
            raise CheckpointError(f"{path}: not the statistics of NIQE; get {HOW}")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise CheckpointError(f"{path}: the statistics of NIQE are not finite; get {HOW}")
        self._mean, self._covariance = (torch.from_numpy(v).double() for v in (mean, covariance))

    def __call__(self, image: Tensor, *, crop_border: int = 0) -> Tensor:
        """Distance of each image from pristine photos, shape (B,), float64 on the CPU.

        Args:
            image: float RGB, shape (B, 3, H, W), in [0, 1]; the metric uses its BT.601 luma.
            crop_border: pixels removed on every side, >= 0.

        Raises:
            ImageError: the image has fewer than two blocks of 96 x 96 pixels, or fewer than two
                that are not uniform.
        """
        height, width = image.shape[-2:]
        cut = image[..., crop_border : height - crop_border, crop_border : width - crop_border]
        rows, columns = (side // BLOCK for side in cut.shape[-2:])
        if rows * columns < 2:
            raise ImageError(
                f"NIQE: expected an image of at least 96x192 pixels, got {width}x{height}"
            )
        luma = (y(cut[..., : rows * BLOCK, : columns * BLOCK].double().cpu()) * 255).round()
        return torch.stack([self._distance(features(one[None])) for one in luma])

    def _distance(self, blocks: Tensor) -> Tensor:
        """Distance of the features of blocks (n, 36) from those of pristine photos, equation 10."""
        textured = blocks[~blocks.isnan().any(dim=1)]
        if len(textured) < 2:
            raise ImageError(
                "NIQE: expected at least two blocks of 96x96 pixels that are not uniform, got "
                f"{len(textured)}"
            )
        mean, covariance = blocks.nanmean(dim=0), textured.T.cov()
        difference = self._mean - mean
        inverse = torch.linalg.pinv((self._covariance + covariance) / 2)
        return (difference @ inverse @ difference).sqrt()


def features(luma: Tensor) -> Tensor:
    """Features of each block of an image.

    Args:
        luma: (1, 1, H, W) float64 in 0..255; H and W are multiples of 96.

    Returns:
        (blocks, 36); NaN for uniform blocks.
    """
    scales = []
    for side in (BLOCK, BLOCK // 2):
        blocks = F.unfold(_normalized(luma), side, stride=side)[0].T.unflatten(1, (side, side))
        scales.append(_block_features(blocks))
        luma = _half(luma)
    return torch.cat(scales, dim=1)


def _half(luma: Tensor) -> Tensor:
    """Reduce to half the size as MATLAB's `imresize` does: bicubic, mirrored at the borders."""
    mirrored = luma
    for dim in (2, 3):
        first, last = mirrored.narrow(dim, 0, 4), mirrored.narrow(dim, mirrored.shape[dim] - 4, 4)
        mirrored = torch.cat([first.flip(dim), mirrored, last.flip(dim)], dim=dim)
    half = [length // 2 for length in mirrored.shape[-2:]]
    return F.interpolate(mirrored, half, mode="bicubic", antialias=True)[..., 2:-2, 2:-2]


def _normalized(luma: Tensor) -> Tensor:
    """Subtract the local mean and divide by the local contrast; equations 1 to 3."""
    axis = torch.arange(-3, 4, dtype=luma.dtype)
    gaussian = torch.exp(-(axis**2) / (2 * (7 / 6) ** 2))
    window = torch.outer(gaussian, gaussian)[None, None] / gaussian.sum() ** 2

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="replicate"), window)

    mean = blur(luma)
    return (luma - mean) / ((blur(luma.square()) - mean.square()).abs().sqrt() + 1)


def _block_features(blocks: Tensor) -> Tensor:
    """Features (N, 18) of normalized blocks (N, s, s).

    They are the parameters of the distributions of the values and of the products of neighbours.
    """
    shape, left, right = fit_asymmetric(blocks.flatten(1))
    columns = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        product = blocks * blocks.roll(shift, dims=(1, 2))
        shape, left, right = fit_asymmetric(product.flatten(1))
        mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        columns += [shape, mean, left, right]
    return torch.stack(columns, dim=1)


def fit_asymmetric(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit asymmetric generalized Gaussians to samples; equation 7.

    Args:
        values: samples, (N, count) float64.

    Returns:
        Shape, left scale and right scale, (N,) each.
    """
    left, right = (
        (values.clamp(**limit).square().sum(dim=1) / is_side.sum(dim=1)).sqrt()
        for limit, is_side in (({"max": 0}, values < 0), ({"min": 0}, values > 0))
    )
    ratio = left / right
    moments = values.abs().mean(dim=1).square() / values.square().mean(dim=1)
    target = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes = torch.arange(0.2, 10 + _STEP, _STEP, dtype=values.dtype)
    table = torch.exp(
        2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes)
    )
    above = torch.searchsorted(table, target).clamp(1, len(table) - 1)  # the table is increasing
    is_lower = target - table[above - 1] < table[above] - target
    shape = shapes[above - is_lower.long()]
    scale = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return shape, left * scale, right * scale
