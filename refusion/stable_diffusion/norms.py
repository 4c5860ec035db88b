"""One set of statistics for the group norms of all tiles of a photo.

A group norm divides by the spread of the whole map. Tiles that each took their own would differ in
colour and contrast; with the same numbers for all, norms are local and only attention is not.
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
    """What the group norms of a network see while `run` runs it; the last call of each counts."""
    seen: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def remember(norm: nn.GroupNorm, inputs: tuple[Tensor, ...]) -> None:
        groups = inputs[0].detach().float().flatten(1).unflatten(1, (norm.num_groups, -1))
        variance, mean = torch.var_mean(groups, dim=-1, keepdim=True, correction=0)
        seen[norm] = mean, (variance + norm.eps).rsqrt()

    hooks = [norm.register_forward_pre_hook(remember) for norm in _norms(network)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@contextlib.contextmanager
def fixed_norms(moments: Moments) -> Iterator[None]:
    """Make group norms use these statistics within the block."""
    try:
        for norm, (mean, scale) in moments.items():
            norm.forward = partial(_normalised, norm, mean, scale)
        yield
    finally:
        for norm in moments:
            del norm.forward  # the class's own comes back


def _norms(network: nn.Module) -> Iterator[nn.GroupNorm]:
    return (module for module in network.modules() if isinstance(module, nn.GroupNorm))


def _normalised(norm: nn.GroupNorm, mean: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    per_group = x.shape[1] // norm.num_groups
    shape = (len(x), x.shape[1], *[1] * (x.ndim - 2))
    scale = scale.expand(-1, -1, per_group).reshape(len(x), -1)
    mean = mean.expand(-1, -1, per_group).reshape(len(x), -1)
    weight, bias = norm.weight.float(), norm.bias.float()
    shift = (bias - mean * scale * weight).reshape(shape)
    return torch.addcmul(shift, x.float(), (scale * weight).reshape(shape)).to(x.dtype)
