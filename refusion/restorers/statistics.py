"""Mean and standard deviation over several restored samples of the same photo."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def mean_and_std(samples: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, with one sample in memory at a time (Welford, 1962).

    Args:
        samples: restored photos (3 * views, H, W), float in [0, 1], two or more; they are
            overwritten.

    Returns:
        Mean (3 * views, H, W), and standard deviation (views, H, W). The standard deviation is the
        square root of the variance (n - 1 in the denominator) averaged over the three channels.
    """
    samples = iter(samples)
    mean, count = next(samples), 1
    views = len(mean) // 3
    squares = mean.new_zeros(views, *mean.shape[1:])
    # `enumerate` would keep the last sample in memory while the next one is computed.
    for sample in samples:
        count += 1
        # In place, because each copy of a photo of 100 megapixels takes more than a gigabyte.
        sample.sub_(mean)
        mean.add_(sample, alpha=1 / count)
        # squares += (x - old mean) (x - new mean); x - new mean = (1 - 1 / count) (x - old mean).
        parts = sample.square_().unflatten(0, (views, 3)).mean(dim=1)
        squares.add_(parts, alpha=(count - 1) / count)
        del sample, parts
    return mean, squares.div_(count - 1).sqrt_()
