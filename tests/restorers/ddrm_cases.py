"""Small inverse problems that the published code and this one both solved."""

import torch

from refusion.operators import (
    BicubicDownsample,
    BlockMean,
    CircularBlur,
    Colorization,
    Dense,
    Identity,
    Inpainting,
    WalshHadamard,
)
from refusion.sde import VPSDE, RecordedNoise

SHAPE = (3, 8, 12)
STEPS = 10
ALPHA_BAR = VPSDE().alpha_bar


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread_matrix():
    """Singular values 1, 3/4, 9/16, ...: the smallest are those that a floor cuts."""
    n = SHAPE[0] * SHAPE[1] * SHAPE[2]
    u, v = (torch.linalg.qr(draw(size, size, seed=seed)).Q for size, seed in ((40, 1), (n, 2)))
    return u * 0.75 ** torch.arange(40).double() @ v[:, :40].T


KEPT = draw(8, 12, seed=3) > 0
KERNEL = draw(3, 5, seed=4).abs() / 12
OPERATORS = {
    "identity": lambda: Identity(SHAPE),
    "inpainting": lambda: Inpainting(SHAPE, KEPT),
    "block_mean": lambda: BlockMean(SHAPE, 4),
    "bicubic": lambda: BicubicDownsample(SHAPE, 4),
    "colorization": lambda: Colorization(SHAPE),
    "hadamard": lambda: WalshHadamard(SHAPE, 0.5, torch.Generator().manual_seed(5)),
    "blur": lambda: CircularBlur(SHAPE, KERNEL),
    "dense": lambda: Dense(SHAPE, spread_matrix()),
}
# name -> (operator, sigma_y, floor, eta, eta_b)
CASES = {
    f"{operator}_{sigma}": (operator, sigma, 1e-3, 0.85, 1.0)
    for operator in OPERATORS
    for sigma in (0.0, 0.1)
} | {
    "dense_floor": ("dense", 0.1, 0.05, 0.85, 1.0),
    "blur_floor": ("blur", 0.0, 0.05, 0.85, 1.0),
    "identity_etas": ("identity", 0.3, 1e-3, 0.4, 0.7),
    "block_mean_etas": ("block_mean", 0.05, 1e-3, 1.0, 0.5),
}


def truth():
    return draw(1, *SHAPE, seed=6).tanh()


def measured(operator, sigma):
    y = operator.forward(truth())
    return y + sigma * draw(*y.shape, seed=7)


def noises():
    return RecordedNoise(draw(1, *SHAPE, seed=8), draw(1001, 1, *SHAPE, seed=9))


def predict_noise(xt, t):
    """Any smooth function that mixes pixels and depends on time will do."""
    return torch.sin(1.3 * xt + 0.2 * xt.roll(1, -1) - 0.1 * xt.roll(1, 1) + t / 700) * 0.9
