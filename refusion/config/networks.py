"""Size of the network that a section describes, found before memory is used for it."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from refusion.config.parser import Component
from refusion.config.tables import find_table
from refusion.errors import ConfigError, one_line

MAX_VALUES = 2 * 10**9
"""Values in the tensors of a network: 8 GB as float32, fourteen times the largest published one."""
MAX_PARTS = 20_000
"""Modules and tensors of a network; the largest published one has 2000."""
_FILLS = frozenset([Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_])


def network_shapes(component: Component) -> dict[str, torch.Size]:
    """Shapes of the tensors of a network by name.

    The network is built on the meta device, where tensors have no memory. The construction stops
    as soon as a limit is exceeded, so settings of any size cost little time. A constructor that
    reads values of tensors, which a plug-in may do, is called on the CPU with the same limits.

    Args:
        component: key of the table of networks, and checked settings.

    Raises:
        ConfigError: the network cannot be built, or is larger than `MAX_VALUES` or `MAX_PARTS`.
    """
    build = find_table("nets")[component.type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = _built(build, component.settings)
        return {name: tensor.shape for name, tensor in net.state_dict().items()}
    except Exception as error:  # a network of a plug-in may raise any type of exception
        raise ConfigError(f"cannot be built: {one_line(error, 150)}") from error


def _built(build: Callable[..., nn.Module], settings: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"), _NoValues(), _size_limit():
            return build(**settings)
    except (RuntimeError, TypeError) as error:
        if "meta" not in str(error):
            raise
    with torch.random.fork_rng(devices=[]), _size_limit():
        return build(**settings)


class _NoValues(TorchFunctionMode):
    """Leaves out initial values: for them, PyTorch imports its compiler on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch; return the tensor that it would fill unchanged."""
        return args[0] if func in _FILLS else func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _size_limit() -> Iterator[None]:
    """Context in which the construction of a network of this thread ends at the limits."""
    thread, values, parts = threading.get_ident(), 0, 0

    def count(_: nn.Module, name: str, part: nn.Module | Tensor | None) -> None:
        nonlocal values, parts
        if threading.get_ident() != thread:
            return
        parts += 1
        values += part.numel() if isinstance(part, Tensor) else 0
        if values > MAX_VALUES:
            raise ConfigError(f"it has more than {MAX_VALUES} values; choose smaller settings")
        if parts > MAX_PARTS:
            raise ConfigError(f"it has more than {MAX_PARTS} layers; choose smaller settings")

    with contextlib.ExitStack() as stack:
        for register in (
            hooks.register_module_parameter_registration_hook,
            hooks.register_module_buffer_registration_hook,
            hooks.register_module_module_registration_hook,
        ):
            stack.callback(register(count).remove)
        yield
