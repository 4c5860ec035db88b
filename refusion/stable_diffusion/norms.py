"""Shared statistics for the group norms of all tiles of a photo.

A group norm uses the mean and standard deviation of the whole feature map. If each tile used its
own statistics, the tiles would differ in colour and contrast. With shared statistics the norms are
local operations, and only attention still depends on the tile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

Moments = Mapping[nn.GroupNorm, tuple[Tensor, Tensor]]
"""Mean and reciprocal standard deviation of each norm's input, both (B, groups, 1) float32."""


def measure_norms(network: nn.Module, run: Callable[[], object]) -> Moments:
    """Measure the input statistics of all group norms of a network.

    Args:
        network: network with the group norms.
        run: function that runs the network; if it does so several times, the last call counts.

    Returns:
        Statistics for `fixed_norms`; a norm that did not run is missing.
    """
    moments: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def record(norm: nn.GroupNorm, inputs: tuple[Tensor, ...]) -> None:
        groups = inputs[0].detach().float().flatten(1).unflatten(1, (norm.num_groups, -1))
        variance, mean = torch.var_mean(groups, dim=-1, keepdim=True, correction=0)
        moments[norm] = mean, (variance + norm.eps).rsqrt()

    hooks = [norm.register_forward_pre_hook(record) for norm in _norms(network)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return moments


@contextlib.contextmanager
def fixed_norms(moments: Moments) -> Iterator[None]:
    """Make the group norms use these statistics instead of their input's, within the block."""
    try:
        for norm, (mean, scale) in moments.items():
            norm.forward = partial(_normalise, norm, mean, scale)
        yield
    finally:
        for norm in moments:
            del norm.forward  # restores the method of the class


def _norms(network: nn.Module) -> Iterator[nn.GroupNorm]:
    return (module for module in network.modules() if isinstance(module, nn.GroupNorm))


def _normalise(norm: nn.GroupNorm, mean: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """Group norm of x (B, C, ...) with given statistics, both (B, groups, 1)."""
    per_group = x.shape[1] // norm.num_groups
    shape = (len(x), x.shape[1], *[1] * (x.ndim - 2))
    scale = scale.expand(-1, -1, per_group).reshape(len(x), -1)
    mean = mean.expand(-1, -1, per_group).reshape(len(x), -1)
    weight, bias = norm.weight.float(), norm.bias.float()
    shift = (bias - mean * scale * weight).reshape(shape)
    return torch.addcmul(shift, x.float(), (scale * weight).reshape(shape)).to(x.dtype)
