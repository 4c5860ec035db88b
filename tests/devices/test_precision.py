"""The choice of device and number format."""

import pytest
import tiny_models
import torch

from refusion.devices import precision
from refusion.errors import ConfigError
from refusion.nets.subpixel import SubpixelConv

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "hint"), [("npu:0", "expected one of"), ("cuda0", "'cuda'")])
def test_unknown_device_is_named(name, hint):
    with pytest.raises(ConfigError, match=f"unknown device '{name}'.*{hint}"):
        precision.choose_device(name)


def test_missing_gpu_is_an_error_and_auto_goes_without(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.choose_device("auto") == precision.choose_device("cpu") == CPU
    assert precision.choose_device(CPU) == CPU
    with pytest.raises(ConfigError, match="no CUDA GPU"):
        precision.choose_device("cuda")


def test_named_formats_and_their_errors():
    assert precision.choose_precision("fp32", CPU) == torch.float32
    assert precision.choose_precision("bf16", CPU) == torch.bfloat16
    assert precision.choose_precision("fp16", torch.device("cuda")) == torch.float16
    with pytest.raises(ConfigError, match="fp16 needs a CUDA GPU"):
        precision.choose_precision("fp16", CPU)
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        precision.choose_precision("bf61", CPU)


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bfloat16_only_where_it_is_native(monkeypatch, native):
    for flag in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, flag, lambda: native, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(precision, "_onednn_supports_bfloat16", lambda: True)
    expected = torch.bfloat16 if native else torch.float32
    assert precision.choose_precision("auto", CPU) == expected


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_auto_on_a_gpu_goes_by_its_generation(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    expected = torch.bfloat16 if capability >= (8, 0) else torch.float32
    assert precision.choose_precision("auto", torch.device("cuda")) == expected


def test_cast_copies_and_takes_inputs_of_any_format():
    unet = tiny_models.build(tiny_models.UNET)
    narrow = precision.cast_network(unet, CPU, torch.bfloat16)
    assert {p.dtype for p in unet.parameters()} == {torch.float32}
    kept = {n for n, p in narrow.named_parameters() if p.dtype == torch.float32}
    assert kept == {"final_conv.weight", "final_conv.bias"}
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        latent = narrow.encode(image)
        out = narrow.decode(latent.z.float(), latent.skips, latent.size)
    assert latent.z.dtype == torch.bfloat16
    assert out.dtype == torch.float32
    assert not any(p.requires_grad for p in narrow.parameters())


def test_a_cast_network_gives_what_the_original_gives():
    """Activations in place, doubling in one step and channels-last memory change nothing."""
    unet = tiny_models.build(tiny_models.UNET)
    fast = precision.cast_network(unet, CPU, torch.float32)
    assert sum(isinstance(module, SubpixelConv) for module in fast.modules()) == 2
    assert not any(isinstance(module, SubpixelConv) for module in unet.modules())
    for size in ((16, 24), (8, 8)):
        image = torch.rand(2, 3, *size)
        with torch.no_grad():
            a, b = unet.encode(image), fast.encode(image)
            torch.testing.assert_close(b.z, a.z, rtol=1e-4, atol=1e-5)
            expected = unet.decode(a.z, a.skips, a.size)
            result = fast.decode(a.z, a.skips, a.size)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_a_gpu_multiplies_float32_faster_within_the_context_only():
    """The settings exist without a GPU."""

    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    before = settings()
    with precision.fast_float32(torch.device("cpu")):
        assert settings() == before
    with pytest.raises(RuntimeError), precision.fast_float32(torch.device("cuda")):
        assert settings() == ("high", True)
        raise RuntimeError
    assert settings() == before
