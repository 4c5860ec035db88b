"""Mean and spread over several samples of one photo."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def mean_and_std(draws: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over draws, of which one is held at a time (Welford 1962).

    Args:
        draws: photos (3 * views, H, W), float in [0, 1], two or more; they are overwritten.

    Returns:
        Mean (3 * views, H, W), and per view and pixel the standard deviation (views, H, W), root
        of the variance's mean over the three channels, estimated with n - 1.
    """
    draws = iter(draws)
    mean, count = next(draws), 1
    views = len(mean) // 3
    squares = mean.new_zeros(views, *mean.shape[1:])
    # Not `enumerate`, which holds the last draw while the next one is made.
    for draw in draws:
        count += 1
        # In place: at 100 megapixels each copy of a photo takes more than a gigabyte.
        draw.sub_(mean)
        mean.add_(draw, alpha=1 / count)
        # (x - old mean) (x - new mean), the second factor being (count - 1) / count of the first.
        parts = draw.square_().unflatten(0, (views, 3)).mean(dim=1)
        squares.add_(parts, alpha=(count - 1) / count)
        del draw, parts
    return mean, squares.div_(count - 1).sqrt_()
