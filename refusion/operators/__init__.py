"""Linear operators H with their SVD in closed form: the known degradations of DDRM.

Each operator works on images of any size and applies H, its transpose and its pseudo-inverse in the
time and memory of a few images; `Dense` is for small images only. The package imports PyTorch and
`refusion.errors` only. The interface is `LinearOperator`. A new operator is one file and one entry
in `OPERATORS`; in Python, `Problem("name", Operator)` gives it to DDRM.
"""

from __future__ import annotations

from refusion.operators.base import LinearOperator
from refusion.operators.dense import Dense
from refusion.operators.fourier import CircularBlur
from refusion.operators.hadamard import WalshHadamard
from refusion.operators.pixelwise import BlockMean, Colorization, Identity, Inpainting
from refusion.operators.separable import BicubicDownsample, Separable, SeparableBlur, gaussian

OPERATORS: dict[str, type[LinearOperator]] = {
    operator.__name__: operator
    for operator in (
        Identity,
        Inpainting,
        BlockMean,
        BicubicDownsample,
        Colorization,
        WalshHadamard,
        SeparableBlur,
        CircularBlur,
        Separable,
        Dense,
    )
}

__all__ = ["OPERATORS", "LinearOperator", *OPERATORS, "gaussian"]
