"""The one place that decides on which device and in which number format networks run.

The sampler's state is float32 always; only the networks' weights and activations are narrowed.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from refusion.errors import ConfigError, suggest
from refusion.nets import LatentUNet
from refusion.nets.layers import Block
from refusion.nets.subpixel import use_subpixel_convs

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str | torch.device) -> torch.device:
    """Device for `auto` (CUDA if there is one), or the one named.

    Raises:
        ConfigError: unknown name, or CUDA is asked for and missing.
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
    """Number format of the networks on `device`.

    Args:
        name: key of `PRECISIONS`, or 'auto': bfloat16 where the hardware multiplies it natively
            (CUDA since Ampere, CPUs with AVX512-BF16 or AMX), else float32.
        device: where they will run.

    Raises:
        ConfigError: unknown name, or float16 on a CPU.
    """
    if name == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        hint = suggest(name, ["auto", *PRECISIONS])
        raise ConfigError(f"precision: unknown precision {name!r}{hint}")
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("precision: fp16 needs a CUDA GPU; on a CPU use 'fp32', 'bf16' or 'auto'")
    return PRECISIONS[name]


def cast_network(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a network to a device and number format, in evaluation mode; the original stays as is.

    Every convolution and linear layer of the copy takes inputs of any float dtype. Of a
    `LatentUNet` in a narrow format the last convolution stays float32: its output is the photo,
    and 8 bits of mantissa would show as banding. The copy's weights lie in channels-last memory,
    in which convolutions of few channels take half the time, its activations act in place, and
    doubling is one step with the convolution after it.
    """
    network = copy.deepcopy(network).eval()
    use_subpixel_convs(network)  # which adds up weights, so before they are narrowed
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
    # Emulated bfloat16 is slower than float32, so the library's support alone does not decide.
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, flag, lambda: False)() for flag in flags)
    return native and _onednn_knows_bfloat16()


def _onednn_knows_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
