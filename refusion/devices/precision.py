"""Choice of the device and the dtype of networks; no other module makes this choice.

The state of a sampler is always float32. Only the weights and activations of networks may have a
16-bit dtype.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from refusion.errors import ConfigError, short, suggest
from refusion.nets import LatentUNet
from refusion.nets.layers import Block
from refusion.nets.subpixel import use_subpixel_convs

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_name(dtype: torch.dtype) -> str:
    """The key of `PRECISIONS` for a dtype.

    >>> precision_name(torch.bfloat16)
    'bf16'
    """
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def choose_device(name: str | torch.device) -> torch.device:
    """Choose a device by name.

    Args:
        name: 'cpu', 'cuda', 'cuda:N', or 'auto' for CUDA if there is a GPU, otherwise the CPU.

    Raises:
        ConfigError: the name is unknown, or there is no CUDA GPU for 'cuda'.
    """
    name = str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise ConfigError(f"device: unknown device {name!r}{suggest(name, DEVICES)}")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: no CUDA GPU was found on this machine; use 'cpu' or 'auto'")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose the dtype of the networks on a device.

    Args:
        name: key of `PRECISIONS`, or 'auto' for bfloat16 where the hardware supports its
            multiplication (CUDA since Ampere, CPUs with AVX512-BF16 or AMX), otherwise float32.
        device: the device that the networks run on.

    Raises:
        ConfigError: the name is unknown, or is 'fp16' for a CPU.
    """
    if isinstance(name, str) and name == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    if not isinstance(name, str) or name not in PRECISIONS:
        hint = suggest(str(name), ["auto", *PRECISIONS])
        raise ConfigError(f"precision: unknown precision {short(name)}{hint}")
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("precision: fp16 needs a CUDA GPU; on a CPU use 'fp32', 'bf16' or 'auto'")
    return PRECISIONS[name]


@contextlib.contextmanager
def fast_float32(device: torch.device) -> Iterator[None]:
    """Context in which a GPU multiplies float32 in TF32 and times the kernels of convolutions.

    TF32 has 10 bits of mantissa and the range of float32. The kernels are timed once per size of
    the inputs, which suits training, where all batches have one size. On a CPU nothing changes.

    Args:
        device: the device that the networks run on.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn  # its convolutions use TF32 by default
    before = torch.get_float32_matmul_precision(), cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.benchmark = before[1]


def cast_network(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a network to a device and dtype, in evaluation mode, frozen; the original is unchanged.

    Every convolution and linear layer of the copy accepts inputs of any float dtype. The last
    convolution of a `LatentUNet` stays float32, because its output is the photo, and the 8-bit
    mantissa of bfloat16 would cause visible banding.
    For speed the weights are in channels-last memory, which halves the time of convolutions with
    few channels, activations work in place, and a doubling and the convolution after it become one
    operation (`SubpixelConv`).

    Args:
        network: the network to copy.
        device: device of the copy.
        dtype: dtype of the weights of the copy.
    """
    network = copy.deepcopy(network).eval()
    use_subpixel_convs(network)  # adds weights, so it must come before the cast to `dtype`
    network = network.requires_grad_(False).to(device, dtype)
    for module in network.modules():
        if isinstance(module, Block):
            module.act = nn.SiLU(inplace=True)
    network = network.to(memory_format=torch.channels_last)
    if dtype == torch.float32:
        return network
    if isinstance(network, LatentUNet):
        network.final_conv.float()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_pre_hook(_match_weight)
    return network


def _match_weight(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].to(module.weight.dtype), *inputs[1:])


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if not torch.backends.mkldnn.is_available():
        return False
    # Without hardware support the library emulates bfloat16, which is slower than float32.
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, flag, lambda: False)() for flag in flags)
    return native and _onednn_supports_bfloat16()


def _onednn_supports_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
