"""Every operator at a size, with what it should do written another way."""

import torch
import torch.nn.functional as F

from refusion.operators import (
    BicubicDownsample,
    BlockMean,
    CircularBlur,
    Colorization,
    Dense,
    Identity,
    Inpainting,
    Separable,
    SeparableBlur,
    WalshHadamard,
    gaussian,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def mask(size):
    return torch.rand(size, generator=generator(1)) < 0.6


LOPSIDED = torch.tensor([0.1, 0.5, 0.2, 0.1, 0.3], dtype=torch.float64)
SHAKEN = draw(5, 3, seed=2).abs()


def columns(x, kernel, pad):
    """Convolution along columns, then rows by the middle tap alone."""
    reach = len(kernel) // 2
    padded = F.pad(x, (0, 0, reach, reach), mode=pad)
    weight = kernel.flip(0)[None, None, :, None].expand(x.shape[1], -1, -1, -1)
    return F.conv2d(padded, weight, groups=x.shape[1])


def blur(x, down, across, pad):
    return columns(columns(x, down, pad).mT, across, pad).mT


def circular(x, kernel):
    top, left = (side // 2 for side in kernel.shape)
    padded = F.pad(x, (left, left, top, top), mode="circular")
    return F.conv2d(padded, kernel.flip(0, 1)[None, None].expand(3, -1, -1, -1), groups=3)


def bicubic(x, factor):
    """A strided convolution with the sampled cubic, borders mirrored with the edge repeated."""
    taps = torch.tensor(bicubic_taps(factor), dtype=torch.float64)
    reach = len(taps) // 2 - factor // 2
    rows = torch.cat([x[..., :reach, :].flip(-2), x, x[..., -reach:, :].flip(-2)], dim=-2)
    weight = taps[None, None, :, None].expand(3, -1, -1, -1)
    once = F.conv2d(rows, weight, stride=(factor, 1), groups=3)
    once = torch.cat([once[..., :reach].flip(-1), once, once[..., -reach:].flip(-1)], dim=-1)
    return F.conv2d(once, weight.mT, stride=(1, factor), groups=3)


def bicubic_taps(factor):
    """4 x factor taps around the middle of a block, a = -0.5 (even factors)."""
    taps = []
    for k in range(4 * factor):
        x = abs(k - 2 * factor + 0.5) / factor
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        taps.append(near if x <= 1 else far)
    return [tap / sum(taps) for tap in taps]


DOWN, ACROSS = draw(5, 12, seed=4), draw(20, 20, seed=5)
# Matrices of rank 3 and 7: their other singular values are rounding errors, not 0.
THIN = draw(5, 3, seed=10) @ draw(3, 12, seed=11)
LOW = draw(20, 7, seed=12) @ draw(7, 20, seed=13)
DEFICIENT = draw(40, 9, seed=14) @ draw(9, 3 * 12 * 20, seed=15)
# A box whose length divides the width removes some frequencies of rows completely.
BOX = torch.full((1, 5), 0.2, dtype=torch.float64)

# name -> (make an operator for (C, H, W), the same without any SVD)
CASES = {
    "identity": (Identity, lambda x: x),
    "inpainting": (
        lambda shape: Inpainting(shape, mask(shape[1:])),
        lambda x: x * mask(x.shape[-2:]),
    ),
    "block_mean": (lambda shape: BlockMean(shape, 4), lambda x: F.avg_pool2d(x, 4)),
    "bicubic": (lambda shape: BicubicDownsample(shape, 4), lambda x: bicubic(x, 4)),
    "colorization": (Colorization, lambda x: x.mean(dim=1, keepdim=True)),
    "luma": (
        lambda shape: Colorization(shape, (0.299, 0.587, 0.114)),
        lambda x: 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:],
    ),
    # Weights close to the first axis, whose reflection is close to the identity.
    "nearly red": (
        lambda shape: Colorization(shape, (1, 0.01, 0)),
        lambda x: x[:, :1] + 0.01 * x[:, 1:2],
    ),
    "red": (lambda shape: Colorization(shape, (1, 0, 0)), lambda x: x[:, :1]),
    "hadamard": (lambda shape: WalshHadamard(shape, 0.3, generator(7)), None),
    "gaussian": (
        lambda shape: SeparableBlur(shape, gaussian(0.6)),
        lambda x: blur(x, gaussian(0.6), gaussian(0.6), "reflect"),
    ),
    "anisotropic": (
        lambda shape: SeparableBlur(shape, LOPSIDED, gaussian(0.8), border="zero"),
        lambda x: blur(x, LOPSIDED, gaussian(0.8), "constant"),
    ),
    "shaken": (lambda shape: CircularBlur(shape, SHAKEN), lambda x: circular(x, SHAKEN)),
    "separable": (
        lambda shape: Separable(shape, DOWN, ACROSS),
        lambda x: DOWN @ x @ ACROSS.T,
    ),
    "separable of low rank": (
        lambda shape: Separable(shape, THIN, LOW),
        lambda x: THIN @ x @ LOW.T,
    ),
    "dense of low rank": (
        lambda shape: Dense(shape, DEFICIENT),
        lambda x: x.flatten(1) @ DEFICIENT.T,
    ),
    "box": (lambda shape: CircularBlur(shape, BOX), lambda x: circular(x, BOX)),
    "inpainting per channel": (
        lambda shape: Inpainting(shape, draw(*shape, seed=6) > 0),
        lambda x: x * (draw(*x.shape[1:], seed=6) > 0),
    ),
    "dense": (
        lambda shape: Dense(shape, draw(40, 3 * 12 * 20, seed=3)),
        lambda x: x.flatten(1) @ draw(40, 3 * 12 * 20, seed=3).T,
    ),
}
