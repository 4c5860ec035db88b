"""Small inverse problems, solved by the published code and by this code."""

import torch

from refusion.operators import (
    BicubicDownsample,
    BlockMean,
    CircularBlur,
    Colorization,
    Dense,
    Identity,
    Inpainting,
    SeparableBlur,
    WalshHadamard,
    gaussian,
)
from refusion.sde import VPSDE, RecordedNoise

SHAPE = (3, 8, 12)
STEPS = 10
ALPHA_BAR = VPSDE().alpha_bar


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def operators_of_tasks(shape, blur):
    """Operators of the seven tasks by name; `blur` is the standard deviation of a Gaussian."""
    return {
        "denoise": Identity(shape),
        "inpaint": Inpainting(shape, normal(*shape[1:], seed=3) > 0),
        "sr_mean": BlockMean(shape, 4),
        "sr": BicubicDownsample(shape, 4),
        "colorize": Colorization(shape),
        "blur": SeparableBlur(shape, gaussian(blur)),
        "cs": WalshHadamard(shape, 0.25, torch.Generator().manual_seed(5)),
    }


def matrix_with_decaying_singulars():
    """Matrix with the singular values 1, 3/4, 9/16, ...; the smallest are below the floor."""
    n = SHAPE[0] * SHAPE[1] * SHAPE[2]
    u, v = (torch.linalg.qr(normal(size, size, seed=seed)).Q for size, seed in ((40, 1), (n, 2)))
    return u * 0.75 ** torch.arange(40).double() @ v[:, :40].T


KEPT = normal(8, 12, seed=3) > 0
KERNEL = normal(3, 5, seed=4).abs() / 12
OPERATORS = {
    "identity": lambda: Identity(SHAPE),
    "inpainting": lambda: Inpainting(SHAPE, KEPT),
    "block_mean": lambda: BlockMean(SHAPE, 4),
    "bicubic": lambda: BicubicDownsample(SHAPE, 4),
    "colorization": lambda: Colorization(SHAPE),
    "hadamard": lambda: WalshHadamard(SHAPE, 0.5, torch.Generator().manual_seed(5)),
    "blur": lambda: CircularBlur(SHAPE, KERNEL),
    "dense": lambda: Dense(SHAPE, matrix_with_decaying_singulars()),
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
    return normal(1, *SHAPE, seed=6).tanh()


def measured(operator, sigma):
    y = operator.forward(truth())
    return y + sigma * normal(*y.shape, seed=7)


def noises():
    return RecordedNoise(normal(1, *SHAPE, seed=8), normal(1001, 1, *SHAPE, seed=9))


def predict_noise(xt, t):
    """A smooth function that mixes pixels and depends on the time, in place of a network."""
    return torch.sin(1.3 * xt + 0.2 * xt.roll(1, -1) - 0.1 * xt.roll(1, 1) + t / 700) * 0.9
